"""`homelab-ai doctor`: every subject in turn, whether a service runs or not, with a configuration or without."""

from collections.abc import Iterator
from pathlib import Path

from homelab_ai.cli.client import Client
from homelab_ai.cli.doctor import browser, configuration, hub, machine, resources, service
from homelab_ai.cli.doctor.findings import Finding
from homelab_ai.cli.doctor.forbidden import gateways
from homelab_ai.models.device import processor
from homelab_ai.settings import Settings


def examine(client: Client, config: Path | None, *, online: bool) -> Iterator[Finding]:
    """Look at everything, and yield what there is as soon as it is known."""
    settings, findings = configuration.read(config)
    yield from findings
    if settings:
        yield from configuration.smells(settings, gateways=gateways())
    else:
        settings = Settings()  # for the machine, the defaults will do
    runs, status, findings = service.ask(client)
    yield from findings
    if not runs:
        yield from service.of_port(settings.server)
    yield from machine.of_processor(processor())
    yield from machine.of_gpu(settings.resources)
    yield from machine.of_clock()
    yield from resources.of_memory(settings.resources)
    yield from resources.of_folders(settings)
    if settings.crawl.enabled:
        yield from browser.of_browser(status.get("browser", {}).get("sandboxed"))
    if online:
        yield from hub.of_hub()
