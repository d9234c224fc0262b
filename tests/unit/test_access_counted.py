"""The gate, over time: how often each may ask, who is kept waiting after wrong keys, and settings that change."""

import hashlib

import pytest
from starlette.applications import Starlette
from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from homelab_ai.api import failures
from homelab_ai.api.access import AccessMiddleware, Gate
from homelab_ai.api.client import Client
from homelab_ai.api.context import ContextMiddleware
from homelab_ai.api.counting import CounterUnavailableError
from homelab_ai.api.keys import new_key
from homelab_ai.errors import Forbidden, RateLimitExceeded, ServiceError, Unauthorized
from homelab_ai.settings import Settings
from homelab_ai.telemetry.metrics import Metrics
from support.gates import HOME, KEY, STRANGER, client, gate, headers

pytestmark = pytest.mark.anyio


@pytest.fixture(autouse=True)
def time(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time of day in seconds, as a list of one."""
    now = [86_400.0 * 20_000]
    monkeypatch.setattr("time.time", lambda: now[0])
    return now


async def counted(door: Gate, somebody: Client, key: str | None = None) -> int | None:
    given = {"authorization": f"Bearer {key}"} if key else {}
    quota = await door.count(door.identify(somebody, headers(**given)), somebody)
    return quota.remaining if quota else None


async def test_a_key_is_counted_wherever_it_is_used_and_an_address_where_there_is_none() -> None:
    door = gate(rate_limit="9/day", allow_localhost=True, networks=[{"cidr": "192.168.1.0/24", "name": "home"}])
    here, other = client("127.0.0.1"), client("192.168.1.8")
    assert [await counted(door, each, KEY) for each in (HOME, STRANGER, here)] == [8, 7, 6]
    assert [await counted(door, each) for each in (HOME, HOME, other, here, here)] == [8, 7, 8, 8, 7]
    door = gate(rate_limit="9/day", auth_enabled=False)
    rooms = [client(f"2001:db8::{number}") for number in (1, 2)]
    assert [await counted(door, each) for each in (*rooms, HOME, STRANGER)] == [8, 7, 8, 8]


async def test_the_limit_of_a_key_comes_before_that_of_all() -> None:
    digest = hashlib.sha256(KEY.encode()).hexdigest()
    keys = [{"name": "app", "key_hash": digest, "rate_limit": "3/day"}]
    assert await counted(gate(api_keys=keys), HOME, KEY) == 2
    assert await counted(gate(api_keys=keys, rate_limit="9/day"), HOME, KEY) == 2
    assert await counted(gate(), HOME, KEY) is None


async def test_who_is_refused_is_so_before_the_body_is_read() -> None:
    door = gate(rate_limit="1/day")
    statuses: list[int] = []

    async def unread() -> Message:
        raise AssertionError("the body was read")

    async def send(message: Message) -> None:
        if message["type"] == "http.response.start":
            statuses.append(message["status"])

    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        await Response("let in")(scope, receive, send)

    service = ContextMiddleware(AccessMiddleware(answer), metrics=Metrics("1.0", reasons=[]))
    for key in (KEY, KEY, "wrong"):
        given = headers(authorization=f"Bearer {key}").raw
        scope = {"type": "http", "method": "POST", "path": "/api/embed", "headers": given, "client": ("192.0.2.7", 1)}
        await service({**scope, "state": {"gate": door}, "app": Starlette()}, unread, send)
    assert statuses == [200, 429, 401]


# --- a configuration that is read anew


async def test_a_gate_goes_by_the_settings_that_it_follows() -> None:
    door = gate({"trusted_proxies": []})
    digest = hashlib.sha256(b"new").hexdigest()
    door.follow(
        Settings.model_validate(
            {
                "server": {"trusted_proxies": ["10.0.0.1"], "allowed_hosts": ["nas.lan"]},
                "security": {
                    "ip_allowlist": ["192.168.1.0/24"],
                    "api_keys": [{"name": "new", "key_hash": digest}],
                    "networks": [{"cidr": "192.168.1.0/24", "name": "home"}],
                    "rate_limit": "5/day",
                },
            }
        )
    )
    with pytest.raises(Unauthorized):
        door.identify(HOME, headers(authorization=f"Bearer {KEY}"))
    assert door.identify(HOME, headers(authorization="Bearer new")).name == "new"
    assert door.identify(HOME, headers("nas.lan")).name == "home"
    with pytest.raises(Forbidden):
        door.check_address(STRANGER)
    scope = {"type": "http", "client": ("10.0.0.1", 1), "headers": [(b"x-forwarded-for", b"192.168.1.7")]}
    assert str(door.client(scope)) == "192.168.1.7"
    assert await counted(door, HOME, "new") == 4
    door.follow(Settings.model_validate({"security": {"auth_enabled": False, "rate_limit": "5/day"}}))
    assert door.identify(STRANGER, headers()).name == "anyone"
    await door.close()


async def test_what_has_been_counted_stays_so_when_settings_change() -> None:
    door = gate(rate_limit="9/day")
    assert await counted(door, HOME, KEY) == 8
    keys = [{"name": "app", "key_hash": hashlib.sha256(KEY.encode()).hexdigest()}]
    door.follow(Settings.model_validate({"security": {"api_keys": keys, "rate_limit": "9/day"}}))
    assert await counted(door, HOME, KEY) == 7


async def test_settings_that_cannot_be_followed_change_nothing() -> None:
    door = gate()
    wrong = {"rate_limit_url": "redis://127.0.0.1/0?socket_timeout=soon", "ip_allowlist": ["10.0.0.1"]}
    with pytest.raises(CounterUnavailableError):
        door.follow(Settings.model_validate({"security": wrong}))
    door.check_address(HOME)
    assert door.identify(HOME, headers(authorization=f"Bearer {KEY}")).name == "app"
    await door.close()


# --- wrong keys


async def tried(door: Gate, somebody: Client, key: str) -> str:
    try:
        return (await door.admit(somebody, headers(authorization=f"Bearer {key}"))).name
    except ServiceError as error:
        return error.code


async def test_who_sends_many_wrong_keys_has_to_wait(time: list[float], log: pytest.LogCaptureFixture) -> None:
    door = gate()
    assert [await tried(door, HOME, f"wrong{number}") for number in range(20)] == ["UNAUTHORIZED"] * 20
    assert await tried(door, HOME, "wrong") == "RATE_LIMIT_EXCEEDED"
    assert await tried(door, HOME, KEY) == "RATE_LIMIT_EXCEEDED", "not even looked at"
    assert await tried(door, STRANGER, KEY) == "app"
    assert len(dict.fromkeys(log.records)) == 1
    assert "192.168.1.7" in log.text
    assert "wrong" not in log.text
    with pytest.raises(RateLimitExceeded) as raised:
        await door.admit(HOME, headers(authorization="Bearer wrong"))
    assert raised.value.retry_after_seconds
    time[0] += raised.value.retry_after_seconds
    assert await tried(door, HOME, KEY) == "app"


async def test_a_key_that_was_right_goes_on_working_beside_an_app_with_a_wrong_one() -> None:
    door = gate()
    assert await tried(door, HOME, KEY) == "app"
    for _ in range(30):
        await tried(door, HOME, "wrong")
    assert await tried(door, HOME, KEY) == "app"
    door.follow(Settings())
    assert await tried(door, HOME, KEY) == "RATE_LIMIT_EXCEEDED", "it is one of the wrong ones now"


async def test_a_key_that_cannot_be_guessed_is_always_looked_at() -> None:
    key = new_key()
    digest = hashlib.sha256(key.encode()).hexdigest()
    door = gate(api_keys=[{"name": "new", "key_hash": digest}])
    for _ in range(30):
        await tried(door, HOME, "wrong")
    assert await tried(door, HOME, key) == "new"
    assert await tried(door, HOME, new_key()) == "RATE_LIMIT_EXCEEDED"


async def test_several_keys_in_one_request_are_none() -> None:
    door = gate()
    twice = Headers(raw=[(b"authorization", f"Bearer {key}".encode()) for key in (KEY, "other")])
    with pytest.raises(Unauthorized):
        await door.admit(HOME, twice)


async def test_an_ipv6_home_is_one_address_however_many_it_uses() -> None:
    door = gate()
    for number in range(20):
        assert await tried(door, client(f"2001:db8:0:1::{number:x}"), "wrong") == "UNAUTHORIZED"
    assert await tried(door, client("2001:db8:0:1:ffff::"), "wrong") == "RATE_LIMIT_EXCEEDED"
    assert await tried(door, client("2001:db8:0:2::1"), "wrong") == "UNAUTHORIZED"


async def test_no_key_is_no_wrong_key() -> None:
    door = gate(allow_localhost=True)
    here = client("127.0.0.1")
    for _ in range(30):
        with pytest.raises(Unauthorized):
            await door.admit(HOME, headers())
        await tried(door, here, "wrong")
    assert await tried(door, HOME, KEY) == "app"
    assert (await door.admit(here, headers())).name == "localhost", "who needs no key is not kept out for another's"
    door = gate(auth_enabled=False)
    for _ in range(30):
        assert await tried(door, HOME, "wrong") == "anyone"


async def test_what_is_remembered_of_right_keys_has_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(failures, "_MOST_REMEMBERED", 3)
    door = gate()
    visitors = [client(f"192.0.2.{number}") for number in range(1, 6)]
    for somebody in visitors:
        await tried(door, somebody, KEY)
    assert len(door._failures._right) == 3
    for somebody in visitors:
        for _ in range(20):
            await tried(door, somebody, "wrong")
    assert [await tried(door, somebody, KEY) for somebody in visitors] == ["RATE_LIMIT_EXCEEDED"] * 2 + ["app"] * 3
