"""The configuration file is read anew when it has changed and settled, and never takes the service down."""

import asyncio
import logging
import os
import threading
from pathlib import Path

import pytest

from homelab_ai.configuration import Configuration
from homelab_ai.settings import ConfigurationError, Settings, Source
from homelab_ai.settings.source import LIVE, differences, is_live
from support.house import until

pytestmark = pytest.mark.anyio


class Service:
    """A configuration over a file, and what it has put into force."""

    def __init__(self, file: Path, environ: dict[str, str] | None = None) -> None:
        self.file = file
        self.source = Source(file, environ or {})
        self.applied: list[Settings] = []
        self.refuses: str | None = None
        self.configuration = Configuration(self.source.load(), self.source)

    def write(self, text: str) -> None:
        """As most editors do: another file in its place."""
        new = self.file.with_suffix(".new")
        new.write_text(text)
        new.replace(self.file)

    async def look(self, times: int = 2) -> None:
        for _ in range(times):
            await self.configuration.look(self.source, self.apply)

    def apply(self, settings: Settings) -> None:
        if self.refuses:
            raise ConfigurationError([self.refuses])
        self.applied.append(settings)


@pytest.fixture
def service(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> Service:
    caplog.set_level(logging.INFO, "homelab_ai")
    (tmp_path / "config.yaml").write_text("limits: {max_texts: 1}\n")
    return Service(tmp_path / "config.yaml")


async def test_a_change_is_applied_once_when_it_has_looked_the_same_twice(service: Service) -> None:
    await service.look(3)
    assert service.applied == []
    service.write("limits: {max_texts: 2}\n")
    await service.look(1)
    assert service.applied == [], "it may be half written"
    await service.look(3)
    assert [settings.limits.max_texts for settings in service.applied] == [2]
    assert service.configuration.settings.limits.max_texts == 2


async def test_what_is_still_being_written_is_waited_for(service: Service) -> None:
    for length in range(1, 20):
        service.file.write_text("limits: {max_texts: 20}\n"[:length])
        await service.look(1)
    assert service.applied == []
    service.file.write_text("limits: {max_texts: 20}\n")
    await service.look(2)
    assert [settings.limits.max_texts for settings in service.applied] == [20]


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("limits: {max_texts: none}\n", "limits.max_texts: expected"),
        ("limits: [\n", "config.yaml:"),
        ("security: {api_keys: [{name: x, key_hash: hunter2}]}\n", "security.api_keys[0].key_hash"),
        ("limts: {}\n", "did you mean limits"),
    ],
)
async def test_a_broken_file_is_refused_and_reported_and_the_next_good_one_is_read(
    service: Service, caplog: pytest.LogCaptureFixture, text: str, why: str
) -> None:
    service.write(text)
    await service.look(4)
    assert service.applied == []
    assert service.configuration.settings.limits.max_texts == 1
    assert not service.configuration.is_current
    (record,) = [record for record in caplog.records if record.levelname == "ERROR"]
    assert why in record.getMessage()
    assert "hunter2" not in caplog.text
    service.write("limits: {max_texts: 3}\n")
    await service.look()
    assert [settings.limits.max_texts for settings in service.applied] == [3]
    assert service.configuration.is_current


async def test_a_file_that_has_gone_does_not_open_the_door(service: Service, caplog: pytest.LogCaptureFixture) -> None:
    service.file.unlink()
    await service.look(3)
    assert service.applied == []
    assert not service.configuration.is_current
    assert "config.yaml: there is no such file" in caplog.text
    service.write("limits: {max_texts: 1}\n")
    await service.look()
    assert len(service.applied) == 1
    assert service.configuration.is_current


async def test_a_file_that_comes_later_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    source, applied = Source(None, {}), list[Settings]()
    configuration = Configuration(source.load(), source)
    Path("config.yaml").write_text("limits: {max_texts: 5}\n")
    for _ in range(2):
        await configuration.look(source, applied.append)
    assert [settings.limits.max_texts for settings in applied] == [5]


async def test_nor_does_one_that_goes_while_it_is_looked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    file = Path("config.yaml")
    file.write_text("security: {ip_allowlist: [192.0.2.1]}\n")
    source = Source(None, {})

    def empty(*_: object) -> Settings:
        file.unlink()
        return Settings()

    monkeypatch.setattr("homelab_ai.settings.source.load_settings", empty)
    with pytest.raises(ConfigurationError, match="the file has gone"):
        source.load()


async def test_a_file_that_may_be_read_now_is_read(service: Service) -> None:
    service.write("limits: {max_texts: 2}\n")
    before = service.source.signature()
    service.file.chmod(0o640)
    assert service.source.signature() != before


async def test_what_cannot_be_put_into_force_changes_nothing(service: Service) -> None:
    service.refuses = "security.rate_limit_url: nobody answers"
    service.write("limits: {max_texts: 2}\n")
    await service.look()
    assert service.configuration.settings.limits.max_texts == 1
    assert not service.configuration.is_current


async def test_the_operator_is_told_what_has_changed_and_what_waits(
    service: Service, caplog: pytest.LogCaptureFixture
) -> None:
    service.write("limits: {max_texts: 2}\nserver: {port: 9000}\nsecurity: {ip_allowlist: [192.0.2.1]}\n")
    await service.look()
    assert "read anew: server.port, limits.max_texts, security.ip_allowlist changed" in caplog.text
    assert "with the next start only: server.port" in caplog.text
    assert "192.0.2.1" not in caplog.text
    assert service.configuration.needing_restart == ["server.port"]
    service.write("limits: {max_texts: 2}\n")
    await service.look()
    assert service.configuration.needing_restart == []


async def test_who_asks_has_it_read_although_the_file_is_the_same(tmp_path: Path) -> None:
    secret = tmp_path / "texts"
    secret.write_text("7")
    (tmp_path / "config.yaml").touch()
    service = Service(tmp_path / "config.yaml", {"HOMELAB_AI__LIMITS__MAX_TEXTS_FILE": str(secret)})
    secret.write_text("8")
    await service.look(3)
    assert service.applied == []
    service.configuration._asked.set()
    await service.look(3)
    assert [settings.limits.max_texts for settings in service.applied] == [8]


@pytest.mark.parametrize(("name", "live"), [("security.api_keys", True), ("models.text_embedding", True)])
def test_live_settings_are_known_by_their_beginning(name: str, *, live: bool) -> None:
    assert is_live(name) is live


@pytest.mark.parametrize("name", ["server.port", "modelsdir", "models_dir", "data_dir", "resources.device"])
def test_all_others_need_a_restart(name: str) -> None:
    assert not is_live(name)


def test_what_is_called_live_exists() -> None:
    everything = list(differences_of_all())
    for name in LIVE:
        assert any(other == name or other.startswith(f"{name}.") for other in everything), name


def differences_of_all() -> list[str]:
    """The names of all settings that can differ."""

    def names(part: object, prefix: str) -> list[str]:
        fields = getattr(type(part), "model_fields", None)
        if fields is None:
            return [prefix.rstrip(".")]
        return [name for field in fields for name in names(getattr(part, field), f"{prefix}{field}.")]

    assert not list(differences(Settings(), Settings()))
    return names(Settings(), "")


async def test_looking_goes_on_whatever_happens(service: Service, caplog: pytest.LogCaptureFixture) -> None:
    calls = 0

    def fails(_: Settings) -> None:
        nonlocal calls
        calls += 1
        service.configuration._asked.set()
        if calls < 3:
            raise RuntimeError("a fault")

    async with service.configuration.followed(fails):
        service.configuration._asked.set()
        await until(lambda: calls >= 3)
    assert "could not be put into force" in caplog.text


async def test_a_file_that_a_full_disk_has_left_empty_is_refused(
    service: Service, caplog: pytest.LogCaptureFixture
) -> None:
    service.write("")
    await service.look()
    assert service.applied == []
    assert "is empty now" in caplog.text
    service.write("{}")
    await service.look()
    assert [settings.limits.max_texts for settings in service.applied] == [4096]


async def test_what_is_no_file_or_far_too_large_is_not_read(service: Service, caplog: pytest.LogCaptureFixture) -> None:
    os.mkfifo(service.file.with_suffix(".pipe"))
    service.file.with_suffix(".pipe").replace(service.file)
    await service.look()
    assert "is no regular file" in caplog.text
    service.write("#" * 2_000_000)
    await service.look()
    assert "no configuration has more than" in caplog.text
    assert service.applied == []


async def test_what_does_not_answer_is_waited_for_and_read_when_it_is_back(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("homelab_ai.configuration._PATIENCE_SECONDS", 0.01)
    back, signature = threading.Event(), service.source.signature

    def away() -> object:
        back.wait(10)
        return signature()

    service.write("limits: {max_texts: 2}\n")
    monkeypatch.setattr(service.source, "signature", away)
    before = threading.active_count()
    async with service.configuration.followed(service.apply):
        service.configuration._asked.set()
        await until(lambda: not service.configuration.is_current)
        for _ in range(5):
            service.configuration._asked.set()
            await asyncio.sleep(0.02)
        assert threading.active_count() <= before + 1, "one look waits, and no other one begins"
        back.set()
        await until(lambda: service.applied)
    assert service.configuration.is_current
