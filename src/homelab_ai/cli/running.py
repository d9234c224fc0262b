"""What the commands share that talk to the running service: how they reach it, and how they end.

Exit status: 0 done; 1 no service answers, it refuses, or something failed; 2 the command line is wrong; 3 there is no
such thing; 4 it does not go together with what there is (a name that is taken, a model that is disabled); 130 Ctrl-C.
"""

import contextlib
import re
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from homelab_ai.cli.client import Client, ServiceUnavailableError

INTERRUPTED = 130

_STATUSES = {400: 2, 404: 3, 409: 4}


@contextlib.contextmanager
def service(url: str) -> Iterator["Client"]:
    """Yield a connection to the service, and end the program with a sentence where it does not answer or refuses.

    Its key, where it wants one, is taken from HOMELAB_AI_API_KEY.
    """
    from homelab_ai.cli.client import Client, ServiceUnavailableError  # noqa: PLC0415

    try:
        with contextlib.closing(Client(url)) as client:
            yield client
    except ServiceUnavailableError as error:
        raise refused(error) from None


def refused(error: "ServiceUnavailableError") -> typer.Exit:
    """Say what the service has said, in words of the command line, and return what ends the program."""
    message = re.sub(r"PATCH /api/models/(\S+)", r"`homelab-ai change \1 --enable`", str(error))
    print(message, file=sys.stderr)
    return typer.Exit(_STATUSES.get(error.status or 0, 1))


def path_of(model: str, action: str = "") -> str:
    """Return the path of a model, by any of its names: an alias and a hub name may hold slashes."""
    from urllib.parse import quote  # noqa: PLC0415

    return f"/api/models/{quote(model, safe='')}{action}"
