"""Text to vectors: the service, and the engines that run in model hosts."""
