"""What runs embedding models. Imported by dotted path and only inside a model host, never by the service itself."""
