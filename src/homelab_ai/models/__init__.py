"""Which models there are, and the processes they run in. Knows nothing of texts, pictures or HTTP."""
