"""Hundreds of loads and unloads, with real processes and an engine that is quick to load: nothing is left behind."""

import asyncio
import gc
import os
from pathlib import Path

import psutil
import pytest

from homelab_ai.models.memory import Footprint
from homelab_ai.models.registry import LocalModels
from homelab_ai.settings import Settings
from support.hosts import DIMENSIONS, Vectors
from support.server import wait_for

pytestmark = pytest.mark.anyio

CYCLES = int(os.environ.get("HOMELAB_AI_TEST_CYCLES", "50"))


class Echoes(Vectors):
    """The engine gives back the bytes that it is given."""

    def pack(self, items: object) -> bytes:
        assert isinstance(items, list)
        return bytes(4 * DIMENSIONS * len(items))


@pytest.mark.timeout(60 + CYCLES)
async def test_loads_and_unloads_leave_nothing_behind(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text("{}")
    settings = Settings.model_validate(
        {
            "data_dir": tmp_path / "data",
            "models_dir": tmp_path / "models",
            "models": {
                "text_embedding": [{"id": name, "hf_model": str(tmp_path / name)} for name in ("one", "two")],
                "image_caption": [],
            },
        }
    )
    models = LocalModels(settings, {"text_embedding": "support.engines"}, clock=asyncio.get_running_loop())
    this, format_ = psutil.Process(), Echoes()

    async def cycle(number: int) -> tuple[int, int, int, int]:
        model = models.catalogue.get(("one", "two")[number % 2])
        async with models.lease(model) as lease:
            assert len(await lease.run(format_, {}, [f"text {number}"])) == 1
        assert len(this.children()) == 1
        if number % 3:
            await models.unload(model)
        else:
            this.children()[0].kill()
        while models.used != Footprint():
            await asyncio.sleep(0.001)
        await asyncio.sleep(0.02)  # for tasks that are about to end
        gc.collect()
        tasks = len(asyncio.all_tasks())
        return this.num_fds(), len(this.children(recursive=True)), tasks, this.memory_info().rss

    gc.collect()
    gc.freeze()  # what other tests have left in this process takes seconds to be looked through
    try:
        for number in range(12):
            await cycle(number)
        first = await cycle(12)
        for number in range(13, 13 + CYCLES):
            last = await cycle(number)
    finally:
        gc.unfreeze()
        await models.close()
    assert last[:3] == first[:3]
    assert last[3] < first[3] + 5 * 1024**2
    wait_for(lambda: this.children() == [])
