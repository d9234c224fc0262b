"""`homelab-ai serve`: the service itself."""

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from homelab_ai.cli.listening import objection


def serve(
    config: Annotated[
        Path | None, typer.Option(help="Configuration file. Without it: $HOMELAB_AI_CONFIG, or config.yaml here.")
    ] = None,
    host: Annotated[str | None, typer.Option(help="Address to listen on, instead of server.host.")] = None,
    port: Annotated[
        int | None, typer.Option(help="Port to listen on, instead of server.port.", min=1, max=65535)
    ] = None,
) -> None:
    """Run the service until it is told to stop (Ctrl-C or SIGTERM)."""
    import uvicorn  # noqa: PLC0415 - other commands need none of this, which takes half a second

    from homelab_ai.app import create_app  # noqa: PLC0415
    from homelab_ai.server import Protocol, fit_for_many_requests  # noqa: PLC0415
    from homelab_ai.settings import ConfigurationError, Source  # noqa: PLC0415
    from homelab_ai.telemetry import logs  # noqa: PLC0415

    # Where there is nobody to read them: uvicorn does not expect that.
    sys.stdout = sys.stdout or Path(os.devnull).open("w")  # noqa: SIM115 - for good
    sys.stderr = sys.stderr or Path(os.devnull).open("w")  # noqa: SIM115
    try:
        source = Source(config)
        settings = source.load()
        app = create_app(settings, source=source)
    except ConfigurationError as error:
        raise SystemExit(str(error)) from None
    host, port = host or settings.server.host, port or settings.server.port
    # uvicorn would find that out last: a first start would have shown its key already, and no other start does.
    if refused := objection(host, port):
        raise SystemExit(f"{host}:{port} cannot be listened on: {refused[0]} ({refused[1]})")
    fit_for_many_requests()
    logs.configure(settings.logging.format, settings.logging.level)
    uvicorn.run(
        app,
        host=host,
        port=port,
        http=Protocol,
        log_config=None,
        access_log=False,
        # Who the client is, is for `api.client` to say.
        proxy_headers=False,
        server_header=False,
        # Longer than proxies keep idle connections to us (60 s, most of them): the one that may still use a connection
        # must be the one that closes it, or requests run into a closed one.
        timeout_keep_alive=75,
        # A client that reads its answer slowly may hold up the end for this long, and no longer.
        timeout_graceful_shutdown=int(settings.resources.request_timeout_seconds) + 1,
    )
