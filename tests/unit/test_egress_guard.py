"""The guard as its clients see it: who is let in, what is passed on and what is refused, over real sockets."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from ipaddress import ip_network

import httpx
import pytest

from homelab_ai.crawling.egress.guard import Guard
from homelab_ai.crawling.egress.policy import Policy
from support.egress import PUBLIC, SITE, Internet, browsing, calling, echo, opened, saying, shown, with_body

pytestmark = pytest.mark.anyio

PRIVATE = "its address is private"


@pytest.fixture
async def internet() -> AsyncIterator[Internet]:
    internet = Internet()
    yield internet
    await internet.close()


@pytest.fixture
async def guard(internet: Internet) -> AsyncIterator[Guard]:
    guard = Guard(resolve=internet.resolve, dial=internet.dial, own_addresses=frozenset)
    await guard.start()
    yield guard
    await guard.close()


# --- what is passed on


async def test_a_page_is_passed_on_and_asked_for_as_its_server_expects(guard: Guard, internet: Internet) -> None:
    heard: list[bytes] = []
    await internet.serve(saying(with_body(b"hello", "X-Some: thing", "Connection: close, X-Hop", "X-Hop: 1"), heard))
    async with opened(guard) as passage, browsing(passage) as client:
        headers = {"X-Mine": "1", "Proxy-Connection": "keep-alive", "Connection": "keep-alive, X-Gone", "X-Gone": "1"}
        answer = await client.get(f"http://{SITE}/a/../b?c=%20d", headers={**headers, "TE": "trailers"})
    assert (answer.status_code, answer.text, answer.headers["x-some"]) == (200, "hello", "thing")
    assert "x-hop" not in answer.headers
    first, *lines = heard[0].decode().split("\r\n")
    assert first == "GET /b?c=%20d HTTP/1.1"
    assert lines[0] == f"Host: {SITE}"
    assert "Connection: close" in lines
    names = [line.partition(":")[0].lower() for line in lines]
    assert "x-mine" in names
    assert not {"proxy-authorization", "proxy-connection", "te", "x-gone", "keep-alive"} & set(names)
    assert internet.dialled == [(PUBLIC, 80)]
    assert (passage.blocked, passage.failures, passage.spent) == ([], [], False)
    assert passage.bytes_received > 5


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"])
async def test_methods_that_pages_use(guard: Guard, internet: Internet, method: str) -> None:
    heard: list[bytes] = []
    answer = with_body(b"" if method == "HEAD" else b"hello")
    await internet.serve(saying(answer, heard))
    async with opened(guard) as passage, browsing(passage) as client:
        for _ in range(2):
            assert (await client.request(method, f"http://{SITE}/")).status_code == 200
    assert [head.split()[0].decode() for head in heard] == [method] * 2


@pytest.mark.parametrize("method", ["TRACE", "PROPFIND", "PURGE", "get"])
async def test_other_methods_are_not_passed_on(guard: Guard, internet: Internet, method: str) -> None:
    async with opened(guard) as passage, calling(passage) as caller:
        caller.say(f"{method} http://{SITE}/ HTTP/1.1", f"Host: {SITE}", shown(passage))
        status, headers, _ = await caller.heard()
    assert (status, "GET" in headers["allow"], internet.dialled) == (405, True, [])


@pytest.mark.parametrize("chunked", [True, False])
async def test_bodies_go_both_ways(guard: Guard, internet: Internet, chunked: bool) -> None:  # noqa: FBT001
    sent = [bytes([letter]) * 100_000 for letter in b"abc"]

    async def server(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        assert (b"Transfer-Encoding: chunked" in head) == chunked
        end = b"0\r\n\r\n" if chunked else sent[-1][-10:]
        body = await reader.readuntil(end) if chunked else await reader.readexactly(300_000)
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n")
        writer.write(b"%x\r\n%b\r\n0\r\nX-Trailer: 1\r\n\r\n" % (len(body), body))

    async def body() -> AsyncIterator[bytes]:
        for part in sent:
            yield part

    await internet.serve(server)
    async with opened(guard) as passage, browsing(passage) as client:
        answer = await client.post(f"http://{SITE}/", content=body() if chunked else b"".join(sent))
    assert len(answer.content) >= 300_000
    assert "content-length" not in answer.headers
    assert passage.bytes_sent > 300_000


async def test_a_body_that_ends_with_its_connection(guard: Guard, internet: Internet) -> None:
    await internet.serve(saying(b"HTTP/1.0 200 OK\r\n\r\nto the end"))
    async with opened(guard) as passage, browsing(passage) as client:
        assert (await client.get(f"http://{SITE}/")).text == "to the end"
        assert (await client.get(f"http://{SITE}/")).text == "to the end"


@pytest.mark.parametrize("status", ["204 No Content", "304 Not Modified"])
async def test_answers_without_a_body(guard: Guard, internet: Internet, status: str) -> None:
    await internet.serve(saying(f"HTTP/1.1 {status}\r\nETag: a\r\n\r\n".encode()))
    async with opened(guard) as passage, browsing(passage) as client:
        assert (await client.get(f"http://{SITE}/")).status_code == int(status[:3])


async def test_what_comes_before_an_answer_is_not_the_answer(guard: Guard, internet: Internet) -> None:
    early = b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"
    await internet.serve(saying(early + early + with_body(b"hello")))
    async with opened(guard) as passage, browsing(passage) as client:
        assert (await client.get(f"http://{SITE}/")).text == "hello"


async def test_who_waits_before_sending_a_body_is_told_to_go_on(guard: Guard, internet: Internet) -> None:
    await internet.serve(saying(with_body(b"hello")))
    async with opened(guard) as passage, calling(passage) as caller:
        caller.say(
            f"POST http://{SITE}/ HTTP/1.1",
            f"Host: {SITE}",
            "Content-Length: 3",
            "Expect: 100-continue",
            shown(passage),
        )
        status, _, _ = await caller.heard()
        assert status == 100
        caller.writer.write(b"abc")
        assert (await caller.heard())[2] == b"hello"


async def test_an_answer_that_comes_before_the_whole_request(guard: Guard, internet: Internet) -> None:
    await internet.serve(saying(with_body(b"too much", status="413 Content Too Large")))
    async with opened(guard) as passage, calling(passage) as caller:
        caller.say(f"POST http://{SITE}/ HTTP/1.1", f"Host: {SITE}", "Content-Length: 9", shown(passage), end=b"abc")
        assert (await caller.heard())[::2] == (413, b"too much")
        assert await caller.rest() == b"", "the rest of the request could be taken for the next one"


async def test_one_connection_serves_many_requests(guard: Guard, internet: Internet) -> None:
    await internet.serve(saying(with_body(b"hello")))
    async with opened(guard) as passage, calling(passage) as caller:
        for _ in range(3):
            caller.say(f"GET http://{SITE}/ HTTP/1.1", f"Host: {SITE}", shown(passage))
            assert (await caller.heard())[::2] == (200, b"hello")
        caller.say(f"GET http://{SITE}/ HTTP/1.1", f"Host: {SITE}", shown(passage))
        caller.say(f"GET http://{SITE}/ HTTP/1.1", f"Host: {SITE}", shown(passage))
        assert [(await caller.heard())[0] for _ in range(2)] == [200, 200]
        caller.say("GET http://192.168.1.1/ HTTP/1.1", "Host: a", shown(passage))
        assert (await caller.heard())[0] == 403
        caller.say(f"GET http://{SITE}/ HTTP/1.1", f"Host: {SITE}", shown(passage))
        assert (await caller.heard())[0] == 200
        caller.say("POST http://10.0.0.1/ HTTP/1.1", "Host: a", "Content-Length: 3", shown(passage), end=b"abc")
        assert (await caller.heard())[0] == 403
        caller.say(f"GET http://{SITE}/ HTTP/1.1", f"Host: {SITE}", shown(passage))
        assert (await caller.heard())[0] == 200
    assert internet.asked == [SITE], "a name is looked up once for a passage"
    assert internet.arrived == 7


async def test_a_tunnel_passes_bytes_as_they_are(guard: Guard, internet: Internet) -> None:
    await internet.serve(echo, port=443)
    blob = bytes(range(256)) * 4096
    async with opened(guard) as passage, calling(passage) as caller:
        caller.say(f"CONNECT {SITE}:443 HTTP/1.1", f"Host: {SITE}:443", shown(passage), end=b"early")
        status, headers, _ = await caller.heard()
        assert (status, headers) == (200, {})
        assert await caller.reader.readexactly(5) == b"early"
        caller.writer.write(blob)
        assert await caller.reader.readexactly(len(blob)) == blob
        caller.writer.write_eof()
        assert await caller.rest() == b""
    assert internet.dialled == [(PUBLIC, 443)]
    assert (passage.bytes_sent, passage.bytes_received) == (len(blob) + 5, len(blob) + 5)


async def test_a_half_closed_tunnel_goes_on_in_the_other_direction(guard: Guard, internet: Internet) -> None:
    async def server(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"heard " + await reader.read(-1))
        writer.write_eof()
        await writer.drain()

    await internet.serve(server, port=443)
    async with opened(guard) as passage, calling(passage) as caller:
        caller.say(f"CONNECT {SITE}:443 HTTP/1.1", f"Host: {SITE}:443", shown(passage))
        await caller.heard()
        caller.writer.write(b"all")
        caller.writer.write_eof()
        assert await caller.rest() == b"heard all"


# --- who may use it


@pytest.mark.parametrize(
    "credentials",
    [
        "",
        "Basic",
        "Basic ",
        "Basic !!!",
        "Basic QQ==",
        "Basic Og==",
        "Bearer {}",
        "Basic {}x",
        "Basic /////w==",
        "Basic {} ",
    ],
)
async def test_wrong_credentials(guard: Guard, internet: Internet, credentials: str) -> None:
    async with opened(guard) as passage, calling(passage) as caller:
        right = shown(passage).rpartition(" ")[2]
        wrong = credentials.format(right[:-4] if credentials.endswith("{} ") else right)
        lines = [f"Proxy-Authorization: {wrong}"] if credentials else []
        for ask in (f"GET http://{SITE}/", f"CONNECT {SITE}:443", f"HEAD http://{SITE}/"):
            caller.say(f"{ask} HTTP/1.1", f"Host: {SITE}", *lines)
            if ask.startswith("HEAD"):
                assert (await caller.reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 407 ")
            else:
                status, headers, _ = await caller.heard()
                assert (status, headers["proxy-authenticate"]) == (407, 'Basic realm="homelab-ai"')
    assert (internet.asked, internet.dialled) == ([], [])


async def test_credentials_may_not_be_shown_twice(guard: Guard, internet: Internet) -> None:
    async with opened(guard) as passage, calling(passage) as caller:
        caller.say(f"GET http://{SITE}/ HTTP/1.1", f"Host: {SITE}", shown(passage), shown(passage))
        assert (await caller.heard())[0] == 407


async def test_credentials_are_of_one_passage_and_end_with_it(guard: Guard, internet: Internet) -> None:
    await internet.serve(saying(with_body(b"hello")))
    async with opened(guard) as one, opened(guard, Policy(allow_ports=())) as other, calling(one) as caller:
        assert one.username != other.username
        assert one.password != other.password
        caller.say(f"GET http://{SITE}/ HTTP/1.1", f"Host: {SITE}", shown(one))
        assert (await caller.heard())[0] == 200
        caller.say(f"GET http://{SITE}/ HTTP/1.1", f"Host: {SITE}", shown(other))
        assert (await caller.heard())[0] == 407, "a connection is of the passage that it was first used for"
        async with browsing(other) as client:
            assert (await client.get(f"http://{SITE}/")).status_code == 403
        mixed = httpx.Proxy(one.proxy_url, auth=(one.username, other.password))
        async with httpx.AsyncClient(proxy=mixed, trust_env=False) as client:
            assert (await client.get(f"http://{SITE}/")).status_code == 407
    async with browsing(one) as client:
        assert (await client.get(f"http://{SITE}/")).status_code == 407


async def test_open_connections_end_with_their_passage(guard: Guard, internet: Internet) -> None:
    await internet.serve(echo, port=443)
    async with contextlib.AsyncExitStack() as stack:
        async with opened(guard) as passage:
            caller = await stack.enter_async_context(calling(passage))
            caller.say(f"CONNECT {SITE}:443 HTTP/1.1", f"Host: {SITE}:443", shown(passage))
            await caller.heard()
            idle = await stack.enter_async_context(calling(passage))
            idle.say("GET http://10.0.0.1/ HTTP/1.1", "Host: a", shown(passage))
            assert (await idle.heard())[0] == 403
        assert await caller.rest() == b""
        assert await idle.rest() == b""


# --- what is refused


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("http://127.0.0.1/", "its address is one of this machine's own"),
        ("http://2130706433/", "its address is one of this machine's own"),
        ("http://0177.0.0.1/", "its address is one of this machine's own"),
        ("http://[::ffff:192.168.1.1]/", "its address is an IPv4 address written as IPv6"),
        ("http://192.168.1.1/", PRIVATE),
        ("http://169.254.169.254/latest/meta-data", "its address is one at which clouds hand out credentials"),
        ("http://router.example/", PRIVATE),
        ("http://mixed.example/", PRIVATE),
        (f"http://{SITE}:22/", "port 22 is not among those that are allowed"),
        ("https://a/", "only http is passed on, and https through a tunnel"),
        ("ftp://a/", "only http is passed on, and https through a tunnel"),
        ("file:///etc/passwd", "only http is passed on, and https through a tunnel"),
        ("/index.html", "only http is passed on, and https through a tunnel"),
        ("http://a%00b/", "its host is not written as it should be"),
        ("http://[fe80::1%25eth0]/", "an IPv6 address with a zone is not passed on"),
    ],
)
async def test_what_may_not_be_reached(guard: Guard, internet: Internet, url: str, reason: str) -> None:
    internet.names |= {"router.example": [["192.168.1.1"]], "mixed.example": [[PUBLIC, "10.0.0.1"]]}
    async with opened(guard) as passage, calling(passage) as caller:
        caller.say(f"GET {url} HTTP/1.1", "Host: a", shown(passage))
        status, headers, body = await caller.heard()
    assert (status, headers["x-homelab-blocked"], body.decode()) == (403, reason, f"{reason}\n")
    assert headers["content-type"] == "text/plain; charset=utf-8"
    assert passage.blocked == [(url, reason)]
    assert internet.dialled == []


async def test_credentials_in_an_address_are_not_remembered(guard: Guard) -> None:
    async with opened(guard) as passage, calling(passage) as caller:
        caller.say("GET http://me:secret@site.example/a HTTP/1.1", "Host: a", shown(passage))
        assert (await caller.heard())[0] == 403
    assert passage.blocked == [("http://site.example/a", "credentials in the address are not passed on")]


async def test_tunnels_to_ports_and_hosts_that_are_not_allowed(guard: Guard, internet: Internet) -> None:
    internet.names["router.example"] = [["192.168.1.1"]]
    async with opened(guard) as passage, calling(passage) as caller:
        for authority in (f"{SITE}:25", "router.example:443", "127.0.0.1:443"):
            caller.say(f"CONNECT {authority} HTTP/1.1", f"Host: {authority}", shown(passage))
            assert (await caller.heard())[0] == 403
    assert [what for what, _ in passage.blocked] == [f"{SITE}:25", "router.example:443", "127.0.0.1:443"]
    assert (internet.asked, internet.dialled) == (["router.example"], [])


async def test_the_guard_is_not_a_way_to_itself(guard: Guard, internet: Internet) -> None:
    everything = Policy(allow_hosts=("127.0.0.1",), allow_ports=tuple(range(65536)))
    async with opened(guard, everything) as passage, browsing(passage) as client:
        answer = await client.get(f"{passage.proxy_url}/")
    assert (answer.status_code, answer.headers["x-homelab-blocked"]) == (403, "it is this service itself")


async def test_other_protocols_are_not_passed_on(guard: Guard, internet: Internet) -> None:
    async with opened(guard) as passage, browsing(passage) as client:
        answer = await client.get(f"http://{SITE}/", headers={"Connection": "Upgrade", "Upgrade": "websocket"})
    assert (answer.status_code, internet.dialled) == (403, [])


async def test_a_server_cannot_pretend_that_the_guard_refused(guard: Guard, internet: Internet) -> None:
    await internet.serve(saying(with_body(b"", "X-Homelab-Blocked: a", "X-Homelab-Failed: b", status="403 Forbidden")))
    async with opened(guard) as passage, browsing(passage) as client:
        answer = await client.get(f"http://{SITE}/")
    assert (answer.status_code, [name for name in answer.headers if "homelab" in name]) == (403, [])


async def test_what_an_operator_allows_is_of_one_passage(guard: Guard, internet: Internet) -> None:
    await internet.serve(saying(with_body(b"at home")), "192.168.1.1")
    internet.names["router.lan"] = [["192.168.1.1"]]
    policy = Policy(allow_networks=(ip_network("192.168.1.0/24"),))
    async with opened(guard, policy) as home, opened(guard) as other:
        async with browsing(home) as client:
            assert (await client.get("http://router.lan/")).text == "at home"
            assert (await client.get("http://192.168.1.1/")).text == "at home"
        async with browsing(other) as client:
            assert (await client.get("http://router.lan/")).status_code == 403


# --- names that change


async def test_the_address_that_was_checked_is_the_one_that_is_dialled(guard: Guard, internet: Internet) -> None:
    await internet.serve(saying(with_body(b"public")))
    await internet.serve(saying(with_body(b"private")), "192.168.1.1")
    internet.names[SITE] = [[PUBLIC], ["192.168.1.1"]]
    async with opened(guard) as passage, browsing(passage) as client:
        for _ in range(2):
            assert (await client.get(f"http://{SITE}/")).text == "public"
    assert (internet.asked, internet.dialled) == ([SITE], [(PUBLIC, 80)] * 2)
    async with opened(guard) as passage, browsing(passage) as client:
        assert (await client.get(f"http://{SITE}/")).status_code == 403
    assert internet.dialled == [(PUBLIC, 80)] * 2


async def test_every_hop_of_a_redirect_is_decided_about(guard: Guard, internet: Internet) -> None:
    await internet.serve(saying(with_body(b"", "Location: http://192.168.1.1/", status="302 Found")))
    async with opened(guard) as passage, browsing(passage) as client:
        answer = await client.get(f"http://{SITE}/", follow_redirects=True)
    assert (answer.status_code, answer.headers["x-homelab-blocked"]) == (403, PRIVATE)
    assert internet.dialled == [(PUBLIC, 80)]


@pytest.mark.parametrize(
    ("url", "dialled"),
    {
        "http://router.example/": ("192.168.1.1", 80),
        "http://0x7f.1/": ("127.0.0.1", 80),
        "http://169.254.169.254/": ("169.254.169.254", 80),
        "http://site.example:22/": (PUBLIC, 22),
    }.items(),
)
async def test_without_the_decision_these_tests_would_see_it(
    guard: Guard, internet: Internet, monkeypatch: pytest.MonkeyPatch, url: str, dialled: tuple[str, int]
) -> None:
    monkeypatch.setattr(Policy, "objection", lambda *_: None)
    internet.names["router.example"] = [["192.168.1.1"]]
    async with opened(guard) as passage, browsing(passage) as client:
        assert (await client.get(url)).status_code == 502
    assert internet.dialled == [dialled]


# --- what does not come about


async def test_the_next_address_is_tried(guard: Guard, internet: Internet) -> None:
    await internet.serve(saying(with_body(b"hello")), "2606::1")
    internet.names[SITE] = [["1.1.1.1", "2606::1", PUBLIC]]
    async with opened(guard) as passage, browsing(passage) as client:
        assert (await client.get(f"http://{SITE}/")).text == "hello"
    assert internet.dialled == [("1.1.1.1", 80), ("2606::1", 80)]
    assert passage.failures == []


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (b"", "it has hung up without an answer"),
        (b"HTTP/1.1 200 OK\r\nContent-Le", "it has hung up without an answer"),
        (b"SSH-2.0-OpenSSH_9.2\r\n\r\n", "its answer is not valid HTTP"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab", "its answer is not valid HTTP"),
        (b"HTTP/1.1 200 OK\r\nA: " + b"a" * 200_000 + b"\r\n\r\n", "its answer is not valid HTTP"),
        (
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: a\r\nConnection: upgrade\r\n\r\n",
            "its answer is not valid HTTP",
        ),
        (b"HTTP/1.1 103 Early Hints\r\n\r\n" * 21 + with_body(b"at last"), "its answer is not valid HTTP"),
    ],
)
async def test_answers_that_are_none(guard: Guard, internet: Internet, answer: bytes, reason: str) -> None:
    await internet.serve(saying(answer))
    async with opened(guard) as passage, browsing(passage) as client:
        got = await client.get(f"http://{SITE}/")
    assert (got.status_code, got.headers["x-homelab-failed"], got.text) == (502, reason, f"{reason}\n")
    assert "x-homelab-blocked" not in got.headers
    assert passage.failures == [(f"http://{SITE}/", reason)]
    assert passage.blocked == []


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("http://nowhere.example/", "its name has not been found"),
        ("http://empty.example/", "its name has no address"),
        (f"http://{SITE}/", "it has refused the connection"),
    ],
)
async def test_servers_that_are_not_there(guard: Guard, internet: Internet, url: str, reason: str) -> None:
    internet.names["empty.example"] = [[]]
    async with opened(guard) as passage, browsing(passage) as client:
        answer = await client.get(url)
        assert (answer.status_code, answer.headers["x-homelab-failed"]) == (502, reason)
        with pytest.raises(httpx.ProxyError):
            await client.get(url.replace("http:", "https:"))
    assert passage.failures == [(url, reason), (f"{httpx.URL(url).host}:443", reason)]


# --- messages with two meanings


@pytest.mark.parametrize(
    ("lines", "status"),
    [
        (["POST http://site.example/ HTTP/1.1", "Host: a", "Content-Length: 4", "Transfer-Encoding: chunked"], 400),
        (["POST http://site.example/ HTTP/1.1", "Host: a", "Content-Length: 4", "Content-Length: 5"], 400),
        (["POST http://site.example/ HTTP/1.1", "Host: a", "Content-Length: +4"], 400),
        (["POST http://site.example/ HTTP/1.1", "Host: a", "Transfer-Encoding: chunked, identity"], 501),
        (["POST http://site.example/ HTTP/1.1", "Host: a", "Transfer-Encoding: xchunked"], 501),
        (["POST http://site.example/ HTTP/1.0", "Transfer-Encoding: chunked"], 400),
        (["POST http://site.example/ HTTP/1.1", "Host: a", "Transfer-Encoding : chunked"], 400),
        (["GET http://site.example/ HTTP/1.1"], 400),
        (["GET http://site.example/ HTTP/1.1", "Host: a", "Host: b"], 400),
        (["GET http://site.example/ HTTP/2.0", "Host: a"], 400),
        (["GET http://site.example/ a HTTP/1.1", "Host: a"], 400),
        (["GET http://site.example/\x00 HTTP/1.1", "Host: a"], 400),
        (["GET http://site.example/\t HTTP/1.1", "Host: a"], 400),
        (["GET http://site.example/ HTTP/1.1", "Host: a", "A: b\x00c"], 400),
        (["GET http://site.example/ HTTP/1.1", "Host: a", "A: b\rc"], 400),
        (["GET http://site.example/ HTTP/1.1", "Host: a", "A: " + "a" * 70_000], 431),
        (["GET http://site.example/ HTTP/1.1", "Host: a", *[f"A{number}: b" for number in range(250)]], 431),
        (["CONNECT site.example:443 HTTP/1.1", "Host: a", "Content-Length: 4"], 400),
        (["CONNECT site.example:443 HTTP/1.1", "Host: a", "Transfer-Encoding: chunked"], 400),
    ],
)
async def test_requests_with_two_meanings(guard: Guard, internet: Internet, lines: list[str], status: int) -> None:
    async with opened(guard) as passage, calling(passage) as caller:
        caller.say(*lines, shown(passage), end=b"0\r\n\r\nGET http://192.168.1.1/ HTTP/1.1\r\n\r\n")
        assert (await caller.heard())[0] == status
        assert await caller.rest() == b"", "nothing after it is taken for a request"
    assert internet.dialled == []


async def test_line_ends_in_a_target_make_no_second_request(guard: Guard, internet: Internet) -> None:
    heard: list[bytes] = []
    await internet.serve(saying(with_body(b"hello"), heard))
    async with opened(guard) as passage, browsing(passage) as client:
        await client.get(f"http://{SITE}/%0d%0aHost:%20evil.example%0d%0a")
    assert heard[0].startswith(b"GET /%0d%0aHost:%20evil.example%0d%0a HTTP/1.1\r\nHost: site.example\r\n")


async def test_the_host_is_that_of_the_address(guard: Guard, internet: Internet) -> None:
    heard: list[bytes] = []
    await internet.serve(saying(with_body(b"hello"), heard), port=8080)
    async with opened(guard) as passage, calling(passage) as caller:
        caller.say(f"GET http://{SITE}:8080/ HTTP/1.1", "Host: router.lan", "Connection: host", shown(passage))
        await caller.heard()
    assert heard[0].lower().count(b"host:") == 1
    assert b"\r\nHost: site.example:8080\r\n" in heard[0]


async def test_the_length_of_a_body_cannot_be_kept_from_its_server(guard: Guard, internet: Internet) -> None:
    heard: list[bytes] = []
    await internet.serve(saying(with_body(b"hello", "Connection: content-length"), heard))
    async with opened(guard) as passage, browsing(passage) as client:
        headers = {"Connection": "content-length, transfer-encoding, host"}
        answer = await client.post(f"http://{SITE}/", content=b"abc", headers=headers)
    assert (answer.text, answer.headers["content-length"]) == ("hello", "5")
    assert b"\r\nContent-Length: 3\r\n" in heard[0]


async def test_a_body_that_is_not_what_was_said(guard: Guard, internet: Internet) -> None:
    await internet.serve(echo)
    async with opened(guard) as passage, calling(passage) as caller:
        caller.say(
            f"POST http://{SITE}/ HTTP/1.1", "Host: a", "Transfer-Encoding: chunked", shown(passage), end=b"zz\r\nabc"
        )
        assert (await caller.heard())[0] == 400
        assert await caller.rest() == b""
