"""What engines of every ability share. Imported only inside model hosts, by engines."""
