"""`homelab-ai embed`: texts of files and pipes into vectors."""
