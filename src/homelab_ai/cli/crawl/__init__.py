"""`homelab-ai crawl`: web pages into text."""
