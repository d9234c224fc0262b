"""homelab-ai-api: text embeddings, image captions and clean web pages for every app in a home."""
