"""What runs in processes of its own, for the pages of strangers."""
