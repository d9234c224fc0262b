"""How the host of a model is started."""

from typing import Any

import pytest

from homelab_ai.models.launcher import Launcher
from homelab_ai.models.registry import LocalModels
from homelab_ai.settings import Settings
from support.clock import Clock
from support.hosts import FakeHosts

pytestmark = pytest.mark.anyio


async def test_what_an_engine_notes_while_it_loads_is_in_the_log(
    settings: Settings, log: pytest.LogCaptureFixture
) -> None:
    hosts = FakeHosts()
    model = LocalModels(settings, {}, hosts, clock=Clock()).catalogue.get("minilm")

    async def start(plan: Any, on_progress: Any = None, /) -> Any:
        on_progress({"note": "is exported"})
        return await hosts(plan)

    await Launcher(settings, {"text_embedding": "an.engine"}, start).launch(model)

    assert "model minilm is exported" in log.text
