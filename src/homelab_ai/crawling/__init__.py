"""Web pages: fetched through one guarded way out, rendered where they need it, and made readable."""
