"""`uvicorn main:app`: the service with the configuration of this folder and of the environment."""

from homelab_ai.app import create_app
from homelab_ai.server import Edge
from homelab_ai.settings import ConfigurationError, load_settings
from homelab_ai.telemetry import logs

try:
    settings = load_settings()
    app = Edge(create_app(settings))
except ConfigurationError as error:
    raise SystemExit(str(error)) from None
logs.configure(settings.logging.format, settings.logging.level)
