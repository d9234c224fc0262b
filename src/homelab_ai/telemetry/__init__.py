"""What the operator can see from outside: logs now; metrics have their place here."""
