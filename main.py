"""`uvicorn main:app`: the service with the configuration of this folder and of the environment."""

from homelab_ai.app import create_app
from homelab_ai.server import Edge
from homelab_ai.settings import ConfigurationError, Source
from homelab_ai.telemetry import logs

try:
    source = Source()
    settings = source.load()
    app = Edge(create_app(settings, source=source))
except ConfigurationError as error:
    raise SystemExit(str(error)) from None
logs.configure(settings.logging.format, settings.logging.level)
