"""The page in the browser: what is in `static/`, served as it is. All that it shows and does goes through the API."""
