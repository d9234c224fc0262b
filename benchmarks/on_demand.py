"""What loading and unloading cost: one load for many callers, memory that comes back, and what a lease adds."""

import asyncio
import json
import statistics
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil

from benchmarks.engine import HUB_NAME
from benchmarks.table import ROUNDS, Row
from demo.service import Service
from homelab_ai.embedding.service import ENGINE
from homelab_ai.models.registry import LocalModels
from homelab_ai.settings import Settings

_CALLERS = 100
_LEASES = 5000
_LEASE_LIMIT_MS = 0.2
_STILL_TAKEN_LIMIT = 0.05


def measure(models: Path) -> list[Row]:
    """Every row about models that come and go."""
    return [*_measure_service(models), asyncio.run(_measure_lease())]


def _measure_service(models: Path) -> list[Row]:
    loads, taken, left = [], [], []
    with tempfile.TemporaryDirectory() as folder, Service(Path(folder), models) as service:
        for _ in range(ROUNDS):
            before = _models(service, "GET", "minilm")["loads"]
            with ThreadPoolExecutor(_CALLERS) as pool:
                list(pool.map(lambda _: service.embed(["first"]), range(_CALLERS)))
            loads.append(_models(service, "GET", "minilm")["loads"] - before)
            (host,) = psutil.Process(service.process.pid).children()
            its_own = _kernel_says(f"/proc/{host.pid}/smaps_rollup", "Anonymous:")
            loaded = _kernel_says("/proc/meminfo", "AnonPages:")
            _models(service, "POST", "minilm/unload")
            time.sleep(1)
            taken.append(its_own / 1e6)
            back = loaded - _kernel_says("/proc/meminfo", "AnonPages:")
            left.append(max(0.0, (its_own - back) / 1e6))
    limit = _STILL_TAKEN_LIMIT * statistics.median(taken)
    still = statistics.median(left)
    return [
        Row(
            f"loads for {_CALLERS} first requests at once",
            f"{max(loads)}",
            "limit 1",
            f"{max(loads):.2f}",
            limited=True,
        ),
        Row(
            f"of {statistics.median(taken):.0f} MB, not back 1 s after an unload",
            f"{still:.1f} MB",
            f"limit {limit:.1f} MB",
            f"{still / limit:.2f}",
            limited=True,
        ),
    ]


async def _measure_lease() -> Row:
    """What the registry adds to a request for a model that is loaded, with twenty models configured."""
    entries = [{"id": f"model-{number}", "hf_model": HUB_NAME} for number in range(20)]
    with tempfile.TemporaryDirectory() as folder:
        settings = Settings.model_validate(
            {"models_dir": folder, "data_dir": folder, "models": {"text_embedding": entries, "image_caption": []}}
        )
        models = LocalModels(settings, {"text_embedding": ENGINE}, clock=asyncio.get_running_loop())
        model = models.catalogue.get("model-0")
        await models.load(model)
        rounds = []
        for _ in range(ROUNDS):
            started = time.perf_counter()
            for _ in range(_LEASES):
                async with models.lease(model) as lease:
                    await lease.hold()
            rounds.append((time.perf_counter() - started) / _LEASES * 1000)
        await models.close()
    added = statistics.median(rounds)
    return Row(
        "a lease on a loaded model",
        f"{added:.3f} ms",
        f"limit {_LEASE_LIMIT_MS:.3f} ms",
        f"{added / _LEASE_LIMIT_MS:.2f}",
        limited=True,
    )


def _kernel_says(file: str, name: str) -> int:
    """Return one figure of that file, in bytes.

    What is compared is anonymous memory: of the host, and of all programs together. The code of libraries is not in it,
    nor other copies of files, which the kernel may take away at any time. What it calls free or available would be off
    by tens of megabytes: pages that were given back stay in a list of each core for a while.
    """
    for line in Path(file).read_text().splitlines():
        if line.startswith(name):
            return int(line.split()[1]) * 1024
    raise ValueError("the kernel does not tell")


def _models(service: Service, method: str, path: str) -> dict[str, int]:
    connection = service.connect()
    connection.request(method, f"/api/models/{path}")
    answer: dict[str, int] = json.loads(connection.getresponse().read())
    return answer
