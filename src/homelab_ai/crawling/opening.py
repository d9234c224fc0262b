"""What opens to the service what it may not fetch: its refusals say why, and this says which setting it is."""

_SETTINGS = {
    "not among those that are allowed": "crawl.allow_ports",
    "one of this machine's own": "crawl.allow_hosts (or crawl.allow_networks, with its one address)",
    "its address is": "crawl.allow_networks or crawl.allow_hosts",
}
"""By words of the reason, the first that are in it. What names its setting itself is not here."""
_NEVER_OPENED = "hand out credentials"


def remedy(reason: str) -> str:
    """Return how the sentence goes on that tells the reason: with the setting that opens it, if there is one."""
    setting = next((setting for words, setting in _SETTINGS.items() if words in reason), "")
    if not setting or _NEVER_OPENED in reason:
        return ""
    return f"; in the service's config.yaml, {setting} opens it"
