"""The Hugging Face hub, where models come from: whether it can be reached, and what time it has. Only if asked for."""

import contextlib
import os
import time
from collections.abc import Callable, Iterator, Mapping
from email.utils import parsedate_to_datetime

import httpx2

from homelab_ai.cli.doctor.findings import Finding

_HUB = "https://huggingface.co"
_PATIENCE_SECONDS = 10.0
_MOST_ASTRAY_SECONDS = 300


def of_hub(environ: Mapping[str, str] = os.environ, now: Callable[[], float] = time.time) -> Iterator[Finding]:
    """Ask for its first page, as downloads would: by the variables for a mirror and for proxies."""
    hub = environ.get("HF_ENDPOINT") or _HUB
    if environ.get("HF_HUB_OFFLINE", "").upper() in {"1", "ON", "YES", "TRUE"}:
        yield Finding("hub", "warning", "HF_HUB_OFFLINE is set: no model is downloaded", "unset HF_HUB_OFFLINE")
    try:
        answer = httpx2.head(hub, timeout=_PATIENCE_SECONDS, follow_redirects=True)
    except (httpx2.HTTPError, httpx2.InvalidURL) as error:
        mend = f"curl -I {hub}; behind a proxy: HTTPS_PROXY=..., for a mirror: HF_ENDPOINT=..."
        saw = f"{hub} cannot be reached, so no model is downloaded: {str(error) or type(error).__name__}"
        yield Finding("hub", "warning", saw, mend)
        return
    yield Finding("hub", "ok", f"{hub} answers")
    with contextlib.suppress(ValueError, KeyError):  # it does not tell the time
        astray = now() - parsedate_to_datetime(answer.headers["Date"]).timestamp()
        if abs(astray) > _MOST_ASTRAY_SECONDS:
            saw = f"it is {abs(astray) / 60:.0f} minutes {'ahead of' if astray > 0 else 'behind'} that of {hub}"
            yield Finding("clock", "problem", saw, "sudo timedatectl set-ntp true")
