"""Which addresses can be those of web pages."""

from urllib.parse import urlsplit

from homelab_ai.errors import InvalidRequest

_LONGEST = 8192


def checked(url: str) -> str:
    """Return the address of a page as it is fetched, without its fragment. Raises `InvalidRequest`.

    Whether it may be reached is the guard's to say, for this and for whatever it leads to.
    """
    url = url.strip()
    if len(url) > _LONGEST:
        raise InvalidRequest.at("url", f"is longer than {_LONGEST} characters")
    if not url.isprintable() or " " in url:
        raise InvalidRequest.at("url", "holds a space or something unseen; write %20 and the like")
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        raise InvalidRequest.at("url", "is not the address of a web page") from None
    if parts.scheme.lower() not in {"http", "https"}:
        raise InvalidRequest.at("url", "does not begin with http:// or https://")
    if not host:
        raise InvalidRequest.at("url", "names no host, such as example.com")
    if parts.username is not None or parts.password is not None:
        raise InvalidRequest.at("url", "holds a user name or a password; send them in headers (Authorization)")
    return url.partition("#")[0]
