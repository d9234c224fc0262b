"""What opens to the service what it may not fetch: its refusals say why, and this says which setting it is."""

from homelab_ai.cli.client import ServiceUnavailableError

_SETTINGS = {
    "not among those that are allowed": "crawl.allow_ports",
    "one of this machine's own": "crawl.allow_hosts (or crawl.allow_networks, with its one address)",
    "its address is": "crawl.allow_networks or crawl.allow_hosts",
}
"""By words of the reason, the first that are in it. What names its setting itself is not here."""
_NEVER_OPENED = "hand out credentials"


def explained(error: ServiceUnavailableError) -> str:
    """Return the error's sentence, and for what was refused the setting that opens it."""
    reason = f"{error.details.get('reason', '')}" if error.code == "CRAWL_BLOCKED" else ""
    setting = next((setting for words, setting in _SETTINGS.items() if words in reason), "")
    if not setting or _NEVER_OPENED in reason:
        return str(error)
    return f"{error}; in the service's config.yaml, {setting} opens it"
