"""What is told of the machine: its processor, and its GPUs, whatever their driver does."""

import asyncio
import sys
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest

from homelab_ai.models import device, memory
from homelab_ai.models.device import Gpu, Gpus, processor
from support.clock import Clock

pytestmark = pytest.mark.anyio

X86 = """processor\t: 0
model name\t: AMD Ryzen 7 7700 8-Core Processor
flags\t\t: fpu avx2 avx512f avx512_bf16 avx512_vnni sse4_2

processor\t: 1
model name\t: another
flags\t\t: fpu
"""
ARM = """processor\t: 0
BogoMIPS\t: 108.00
Features\t: fp asimd asimddp sve i8mm bf16
CPU implementer\t: 0x41
"""


def test_a_processor_is_told_by_its_name_and_what_makes_models_fast(tmp_path: Path) -> None:
    (tmp_path / "x86").write_text(X86)
    (tmp_path / "arm").write_text(ARM)
    found = processor(tmp_path / "x86")
    assert found.name == "AMD Ryzen 7 7700 8-Core Processor"
    assert found.features == ("avx2", "avx512f", "avx512_vnni", "avx512_bf16")
    assert found.cores >= 1
    assert processor(tmp_path / "arm").features == ("asimddp", "i8mm", "bf16", "sve")
    assert processor(tmp_path / "nothing").name
    assert processor().name


async def test_the_driver_is_asked_every_few_seconds_at_most() -> None:
    clock, asked = Clock(), []

    def read() -> list[Gpu]:
        asked.append(threading.current_thread())
        return [Gpu("one", 100, len(asked))]

    gpus = Gpus(clock, read)
    assert await asyncio.gather(*(gpus.now() for _ in range(5))) == [[Gpu("one", 100, 1)]] * 5
    clock.advance(4)
    assert await gpus.now() == [Gpu("one", 100, 1)]
    clock.advance(2)
    assert await gpus.now() == [Gpu("one", 100, 2)]
    assert len(asked) == 2
    assert threading.main_thread() not in asked


async def test_a_driver_that_fails_is_complained_of_once(log: pytest.LogCaptureFixture) -> None:
    clock = Clock()

    def read() -> list[Gpu]:
        raise RuntimeError("the GPU is lost")

    gpus = Gpus(clock, read)
    for _ in range(3):
        assert await gpus.now() == ()
        clock.advance(10)
    assert log.text.count("the GPU is lost") == 1


async def test_a_driver_that_hangs_holds_up_nobody_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device, "_LONGEST_WAIT_SECONDS", 0.01)
    clock, release, asked = Clock(), threading.Event(), []

    def read() -> list[Gpu]:
        asked.append(1)
        if len(asked) == 2:
            release.wait(30)
        return [Gpu("one", 100, len(asked))]

    gpus = Gpus(clock, read)
    while not (known := await gpus.now()):
        pass
    clock.advance(10)
    for _ in range(3):
        assert await gpus.now() == known
    assert len(asked) == 2
    release.set()
    while (await gpus.now()) == known:
        pass
    gpus.close()


async def test_a_driver_that_hangs_does_not_hold_up_the_end() -> None:
    release = threading.Event()
    gpus = Gpus(Clock(), lambda: [Gpu("one", 1, 1)] if release.wait(30) else [])
    asking = asyncio.create_task(gpus.now())
    await asyncio.sleep(0)
    gpus.close()
    assert await asking == ()
    release.set()


class Nvml:
    """Stands for `pynvml`."""

    def __init__(self, *, fails: bool = False) -> None:
        self.open = 0
        self.fails = fails

    def nvmlInit(self) -> None:  # noqa: N802 - its name
        self.open += 1

    def nvmlShutdown(self) -> None:  # noqa: N802
        self.open -= 1

    def nvmlDeviceGetCount(self) -> int:  # noqa: N802
        return 2

    def nvmlDeviceGetHandleByIndex(self, index: int) -> int:  # noqa: N802
        if self.fails:
            raise RuntimeError("the GPU is lost")
        return index

    def nvmlDeviceGetName(self, handle: int) -> str | bytes:  # noqa: N802 - older ones answer with bytes
        names: list[str | bytes] = ["first", b"second"]
        return names[handle]

    def nvmlDeviceGetMemoryInfo(self, handle: int) -> SimpleNamespace:  # noqa: N802
        return SimpleNamespace(total=1000 + handle, used=handle)


def test_what_nvml_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "gpu_is_likely", lambda: True)
    nvml = Nvml()
    monkeypatch.setitem(sys.modules, "pynvml", nvml)
    assert device.read_nvml() == [Gpu("first", 1000, 0), Gpu("second", 1001, 1)]
    nvml.fails = True
    with pytest.raises(RuntimeError):
        device.read_nvml()
    assert nvml.open == 0
    monkeypatch.setitem(sys.modules, "pynvml", None)  # as where it is not installed
    assert device.read_nvml() == ()


def test_without_a_gpu_nothing_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "gpu_is_likely", lambda: False)
    monkeypatch.setitem(sys.modules, "pynvml", Nvml(fails=True))
    assert device.read_nvml() == ()
