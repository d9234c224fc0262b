"""Model hosts: child processes with one engine each, seen from the service and from inside."""
