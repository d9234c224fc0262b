"""`homelab-ai caption`: images into words, whole folders of them."""
