"""`homelab-ai doctor --egress` among services that do what they must not, or say that they do not."""

import hashlib
import json
import re
import socket
from collections.abc import Callable, Iterator
from ipaddress import IPv4Address, ip_address
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import urlsplit

import pytest
from typer.testing import CliRunner, Result

from homelab_ai.cli import cli
from homelab_ai.cli.client import ServiceUnavailableError
from homelab_ai.cli.doctor import egress
from homelab_ai.cli.doctor.attempts import NothingSaidError, opener, outcome_of
from homelab_ai.cli.doctor.forbidden import Forbidden
from homelab_ai.settings import Settings
from support.answering import Handler, answering
from support.server import free_port

KEY = "the-key-of-the-doctor"
BLOCKED = (403, "CRAWL_BLOCKED", "The page may not be fetched: its address is one of this machine's own")

Answer = tuple[int, str, str]
Behaviour = Callable[[dict[str, Any]], Answer | None]


class Villain(Handler):
    """A service that behaves as a test wants."""

    behaves: ClassVar[Behaviour]
    asked: ClassVar[list[dict[str, Any]]]

    def do_POST(self) -> None:
        wish = json.loads(self.body())
        Villain.asked.append(wish)
        answer = Villain.behaves(wish)
        body: dict[str, Any] = {"text": "the page"}
        if answer:
            body = {"error": {"code": answer[1], "message": answer[2], "request_id": "-", "details": {}}}
        status = answer[0] if answer else 200
        headers = {"Retry-After": "0"} if status == 429 else {}
        self.answer(json.dumps(body).encode(), "application/json", status=status, headers=headers)


@pytest.fixture
def villain() -> Iterator[str]:
    Villain.asked = []
    with answering(Villain) as url:
        yield url


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Listeners on loopback only, and a folder without a configuration."""
    monkeypatch.setattr(egress, "own_addresses", frozenset)
    monkeypatch.chdir(tmp_path)


def doctor(url: str, *arguments: str, config: str | None = None) -> Result:
    port = free_port()
    Path("config.yaml").write_text(config if config is not None else f"crawl: {{allow_ports: [80, {port}]}}")
    return CliRunner().invoke(
        cli, ["doctor", "--egress", "--url", url, *arguments], env={"COLUMNS": "200", "HOMELAB_AI_API_KEY": KEY}
    )


def levels(result: Result) -> dict[str, set[str]]:
    """How each subject was found."""
    found: dict[str, set[str]] = {}
    for finding in json.loads(result.stdout)["findings"]:
        found.setdefault(finding["subject"], set()).add(finding["level"])
    return found


def refuses(_: dict[str, Any]) -> Answer:
    return BLOCKED


def fetches(_: dict[str, Any]) -> None:
    return None


def lies(wish: dict[str, Any]) -> Answer:
    """Say that the page is refused, and fetch it all the same."""
    place = urlsplit(wish["url"])
    if place.hostname == "127.0.0.1" and place.port and not place.path.startswith("/health"):
        socket.create_connection((place.hostname, place.port)).close()
    return BLOCKED


def test_a_service_that_refuses_everything_is_well(villain: str) -> None:
    Villain.behaves = refuses
    done = doctor(villain)
    assert done.exit_code == 0, done.output
    assert "problem" not in done.stdout
    assert re.search(r"ok +loopback +refused: (\d+) of \1 addresses, over plain HTTP and in the browser", done.stdout)
    assert {wish["wait_for_js"] for wish in Villain.asked} == {True, False}
    assert any(wish["url"].endswith("169.254.169.254/latest/meta-data/") for wish in Villain.asked)
    assert f"{villain}/health" in {wish["url"] for wish in Villain.asked}, "the service itself"


def test_a_service_that_fetches_is_found_out_page_by_page(villain: str) -> None:
    Villain.behaves = fetches
    done = doctor(villain, "--json")
    assert done.exit_code == 1
    told = json.loads(done.stdout)
    assert {attempt["outcome"] for attempt in told["attempts"]} == {"let through"}
    problems = [finding for finding in told["findings"] if finding["level"] == "problem"]
    assert len(problems) == len(told["attempts"])
    assert all("crawl: {enabled: false}" in finding["mend"] for finding in problems)
    assert any("http://169.254.169.254/latest/meta-data/ was not refused in the browser" in p["saw"] for p in problems)


def test_a_service_that_lies_is_found_out_by_who_came(villain: str) -> None:
    Villain.behaves = lies
    done = doctor(villain)
    assert done.exit_code == 1
    assert re.search(r"problem +loopback +http://127\.0\.0\.1:\d+/ was not refused in the browser", done.stdout)
    assert "somebody connected to 127.0.0.1 meanwhile" in " ".join(done.stdout.split())
    assert done.stdout.count("> crawl: {enabled: false}") == 1, "once, for all that it mends"


def test_a_service_whose_page_came_to_nothing_has_let_it_through(villain: str) -> None:
    Villain.behaves = lambda wish: (
        502,
        "CRAWL_FAILED",
        "The page could not be fetched: its server refuses connections",
    )
    done = doctor(villain, "--json")
    assert done.exit_code == 1
    assert levels(done)["a cloud's credentials"] == {"problem"}


def test_what_the_operator_has_opened_is_let_through(villain: str) -> None:
    def opened(wish: dict[str, Any]) -> Answer | None:
        return None if "192.168.1." in wish["url"] else BLOCKED

    Villain.behaves = opened
    done = doctor(villain, "--json", config="crawl: {allow_networks: [192.168.1.0/24]}")
    assert done.exit_code == 0, done.stdout
    (finding,) = (each for each in json.loads(done.stdout)["findings"] if "let through" in each["saw"])
    assert finding["saw"] == (
        "let through, as the configuration says (crawl.allow_networks: 192.168.1.0/24): "
        "http://192.168.1.1/, https://192.168.1.1/"
    )
    assert levels(doctor(villain, "--json", config=""))["the home network"] == {"ok", "problem"}


def test_where_there_is_no_browser_its_way_is_left_out(villain: str) -> None:
    said = "Pages cannot be rendered here: no Chromium is installed"
    Villain.behaves = lambda wish: (502, "CRAWL_FAILED", said) if wish["wait_for_js"] else BLOCKED
    done = doctor(villain)
    assert done.exit_code == 0
    assert f"warning  pages                  {said}. Only plain HTTP was tried" in done.stdout
    assert "apt-get install chromium-headless-shell" in done.stdout
    assert [wish["wait_for_js"] for wish in Villain.asked].count(True) == 1


def test_where_no_page_is_read_there_is_nothing_to_ask_for(villain: str) -> None:
    Villain.behaves = lambda wish: (403, "CRAWL_BLOCKED", "Pages are not read here: crawl.enabled is false")
    done = doctor(villain, "--online")
    assert (done.exit_code, len(Villain.asked)) == (0, 1)
    assert "crawl.enabled is false" in done.stdout


def test_a_rate_limit_is_waited_for(villain: str) -> None:
    def sometimes(wish: dict[str, Any]) -> Answer:
        return BLOCKED if len(Villain.asked) % 3 else (429, "RATE_LIMIT_EXCEEDED", "Slow down")

    Villain.behaves = sometimes
    done = doctor(villain, "--json")
    assert done.exit_code == 0
    assert {attempt["outcome"] for attempt in json.loads(done.stdout)["attempts"]} == {"refused"}


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ((403, "FORBIDDEN", "This key may not crawl"), "This key may not crawl"),
        ((401, "UNAUTHORIZED", "No valid API key came"), "Set HOMELAB_AI_API_KEY to a key of this service"),
        ((400, "INVALID_REQUEST", "timeout_ms: is not known"), "timeout_ms: is not known"),
        ((500, "INTERNAL_ERROR", "Something broke"), "Something broke"),
    ],
)
def test_what_says_nothing_of_the_page_is_no_refusal(villain: str, answer: Answer, said: str) -> None:
    Villain.behaves = lambda wish: answer
    done = doctor(villain)
    assert done.exit_code == 1
    assert said in done.stderr
    assert done.stdout == ""


def test_the_internet_has_to_be_let_through_when_that_is_asked_for(villain: str) -> None:
    Villain.behaves = refuses
    done = doctor(villain, "--online", "--json")
    assert levels(done)["the internet"] == {"warning"}
    Villain.behaves = lambda wish: None if "example.com/" in wish["url"] else BLOCKED
    Villain.asked = []
    assert levels(doctor(villain, "--online", "--json"))["the internet"] == {"ok"}
    Villain.asked = []
    doctor(villain)
    assert not any(urlsplit(wish["url"]).hostname == "example.com" for wish in Villain.asked if "@" not in wish["url"])


def test_without_a_service_or_with_a_wrong_configuration_it_says_so(villain: str) -> None:
    done = doctor(f"http://127.0.0.1:{free_port()}")
    assert done.exit_code == 1
    assert "No service answers at http://127.0.0.1" in done.stderr
    done = doctor(villain, config="crawl: {allow_prots: [80]}")
    assert done.exit_code == 1
    assert "did you mean allow_ports?" in done.stderr


@pytest.mark.parametrize(
    ("code", "message", "outcome"),
    [
        ("CRAWL_BLOCKED", "no", "refused"),
        ("INVALID_REQUEST", "url: is not the address of a web page", "refused"),
        ("CRAWL_FAILED", "The page could not be fetched: its name has not been found", "not found"),
        ("CRAWL_FAILED", "The page could not be fetched: its server refuses connections", "let through"),
        ("TIMEOUT", "too late", "let through"),
        ("UNSUPPORTED_MEDIA_TYPE", "a picture", "let through"),
        ("FORBIDDEN", "not with this key", None),
    ],
)
def test_what_an_answer_says_of_a_name(code: str, message: str, outcome: str | None) -> None:
    page, error = Forbidden("names", "http://a.example/", host="a.example"), ServiceUnavailableError(message, 400, code)
    if outcome:
        assert outcome_of(error, page) == outcome
    else:
        with pytest.raises(NothingSaidError):
            outcome_of(error, page)


def test_an_address_that_is_not_found_was_looked_for_all_the_same() -> None:
    error = ServiceUnavailableError("its name has not been found", 502, "CRAWL_FAILED")
    assert outcome_of(error, Forbidden("loopback", "http://127.1/", IPv4Address("127.0.0.1"))) == "let through"


@pytest.mark.parametrize(
    ("crawl", "opened"),
    [
        ({}, False),
        ({"allow_networks": ["10.0.0.0/8"]}, True),
        ({"allow_networks": ["10.1.0.0/16"]}, False),
        ({"allow_hosts": ["10.0.0.7"]}, True),
        ({"allow_hosts": ["NAS.lan"]}, True),
        ({"allow_hosts": [".lan"]}, True),
        ({"allow_hosts": ["lan", "as.lan", ".s.lan"]}, False),
    ],
)
def test_what_opens_a_page(crawl: dict[str, Any], opened: bool) -> None:  # noqa: FBT001
    page = Forbidden("home", "http://nas.lan/", ip_address("10.0.0.7"), "nas.lan")
    settings = Settings.model_validate({"crawl": crawl})
    assert bool(opener(page, settings, "")) is opened
    assert not opener(Forbidden("home", page.url, page.address, page.host, never_opened=True), settings, "")


def test_the_machine_of_the_service_is_opened_by_no_network_of_many() -> None:
    settings = Settings.model_validate({"crawl": {"allow_networks": ["10.0.0.0/8", "10.0.0.9/32"]}})
    for address, setting in (("10.0.0.7", ""), ("10.0.0.9", "crawl.allow_networks: 10.0.0.9/32")):
        page = Forbidden("home", f"http://{address}/", ip_address(address), of_the_service=True)
        assert opener(page, settings, "") == setting


def test_a_key_opens_what_is_its_own() -> None:
    entry = {
        "name": "photos",
        "key_hash": hashlib.sha256(KEY.encode()).hexdigest(),
        "crawl_allow_networks": ["10.0.0.0/8"],
    }
    settings = Settings.model_validate({"security": {"api_keys": [entry]}})
    page = Forbidden("home", "http://10.0.0.7/", ip_address("10.0.0.7"))
    assert opener(page, settings, KEY) == "crawl_allow_networks of photos: 10.0.0.0/8"
    assert opener(page, settings, "another") == ""


@pytest.mark.parametrize(
    ("url", "here"),
    [
        ("http://127.0.0.1:8000", True),
        ("http://localhost:8000", True),
        ("http://[::1]:8000", True),
        ("http://192.168.1.7", True),
        ("http://192.168.1.8", False),
    ],
)
def test_whether_the_service_is_on_this_machine(url: str, here: bool) -> None:  # noqa: FBT001
    assert egress.is_here(url, [ip_address("192.168.1.7")]) is here
