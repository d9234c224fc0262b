"""What the villain tries to get into the home: by a page's address, by where it leads, and by what it loads.

Each of these gets in where the guard's decision is switched off. What the browser refuses by itself, guard or not,
proves nothing and is not here: links to preconnect and to prerender, icons, manifests, `window.open()`, references to
another site's SVG, WebTransport, `fetchLater()`.
"""

from dataclasses import dataclass, field, replace

from support.egress import PUBLIC
from support.sites import Served
from support.villain import VILLAIN

Names = dict[str, list[list[str]]]

UNTIL_IT_HAS_HAD_ITS_EFFECT = "<script src=/effect></script>"
AND_WHILE_THE_PAGE_GOES_ON = "<script>fetch('/effect')</script>"
CHANGING = "http://changing.test/"
CHANGES: Names = {"changing.test": [[PUBLIC], ["10.0.0.1"]]}


@dataclass(frozen=True)
class Attack:
    """`SECRET` stands for the host and port of what is at home, `PORT` for the port, in addresses and pages."""

    url: str = f"http://{VILLAIN}/"
    page: Served = field(default_factory=lambda: Served(""))
    browser: bool = True
    screenshot: bool = False
    """So that pictures and the like are loaded."""
    names: Names = field(default_factory=dict)
    """What they resolve to, in turn."""
    before: str | None = None
    """A page that is read first."""

    def aimed(self, port: int) -> "Attack":
        """The attack on what listens on this port of this machine."""

        def aim(text: str) -> str:
            return text.replace("SECRET", f"127.0.0.1:{port}").replace("PORT", str(port))

        headers = {name: aim(value) for name, value in self.page.headers.items()}
        return replace(self, url=aim(self.url), page=replace(self.page, body=aim(str(self.page.body)), headers=headers))


def address(host: str, names: Names | None = None) -> dict[str, Attack]:
    """The page itself is at home."""
    attack = Attack(f"http://{host}:PORT/", names=names or {})
    return {f"{host} in a browser": attack, f"{host}": replace(attack, browser=False)}


def led(host: str, status: int = 302, *, browser: bool = True, path: str = "/") -> Attack:
    """The page leads there."""
    return Attack(page=Served("", status=status, headers={"Location": f"http://{host}:PORT{path}"}), browser=browser)


def loading(html: str, *, screenshot: bool = False, held: str = UNTIL_IT_HAS_HAD_ITS_EFFECT, **headers: str) -> Attack:
    """The page loads something from there."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Attack(page=Served(f"<!doctype html><body>{html}{held}", headers=named), screenshot=screenshot)


def running(script: str, *, held: str = UNTIL_IT_HAS_HAD_ITS_EFFECT) -> Attack:
    """The page's script asks for it."""
    return loading(f"<script>{script}</script>", held=held)


def calling(server: str) -> Attack:
    """WebRTC, which may use TCP, and that the proxy alone."""
    servers = f"{{iceServers: [{{urls: '{server}?transport=tcp', username: 'u', credential: 'p'}}]}}"
    return running(
        f"pc = new RTCPeerConnection({servers}); pc.createDataChannel('c');"
        "pc.createOffer().then(offer => pc.setLocalDescription(offer))"
    )


ADDRESSES: dict[str, Attack] = {
    # This machine, in the spellings that browsers take for it. (Some are refused before they are fetched: 0177.0.0.1
    # and digits in circles. Here they stand where a page leads to them.)
    **address("127.0.0.1"),
    **address("127.1"),
    **address("127.0.0.1."),
    **address("2130706433"),
    **address("0x7f.1"),
    **address("0.0.0.0"),
    **address("0"),
    **address("127。0。0。1"),
    **address("[::1]"),
    **address("[::]"),
    **address("[::ffff:127.0.0.1]"),
    **address("[::ffff:7f00:1]"),
    **address("[64:ff9b::7f00:1]"),
    **address("[2002:7f00:1::]"),
    "%31%32%37.0.0.1 in a browser": Attack("http://%31%32%37.0.0.1:PORT/"),
    **address("localhost"),
    # Names for what is at home.
    **address("router.test"),
    **address("ROUTER.test."),
    **address("metadata.test", {"metadata.test": [["169.254.169.254"]]}),
    **address("tailscale.test", {"tailscale.test": [["100.64.0.7"]]}),
    **address("mapped.test", {"mapped.test": [["::ffff:192.168.1.1"]]}),
    **address("unique-local.test", {"unique-local.test": [["fd12::1"]]}),
    **address("both.test", {"both.test": [["192.168.1.1", PUBLIC]]}),
}

REDIRECTS: dict[str, Attack] = {
    f"{status} to {host}{' in a browser' if browser else ''}": led(host, status, browser=browser)
    for browser in (False, True)
    for status, host in (
        (301, "127.0.0.1"),
        (302, "router.test"),
        (303, "0x7f.1"),
        (307, "[::1]"),
        (308, "localhost"),
    )
} | {
    "302 to 0177.0.0.1 in a browser": led("0177.0.0.1"),
    "302 to 127.0.0.1 in circles in a browser": led("%E2%91%A0%E2%91%A1%E2%91%A6.%E2%93%AA.%E2%93%AA.%E2%91%A0"),
    "302 with credentials": led("user:word@127.0.0.1", browser=False),
    "302 with credentials in a browser": led("user:word@127.0.0.1"),
    "302 with a host for credentials": led("villain.test@127.0.0.1", browser=False),
    "302 with a host for credentials in a browser": led("villain.test@127.0.0.1"),
    "302 and again": Attack(page=Served("", status=302, headers={"Location": "/to-the-secret"}), browser=False),
    "302 and again in a browser": Attack(page=Served("", status=302, headers={"Location": "/to-the-secret"})),
}

PAGES: dict[str, Attack] = {
    "script": loading("<script src=http://SECRET/></script>"),
    "module": running("import('http://SECRET/').catch(() => 0)"),
    "style": loading("<link rel=stylesheet href=http://SECRET/>"),
    "style in a style": loading("<style>@import 'http://SECRET/'</style>"),
    "picture": loading("<img src=http://SECRET/>", screenshot=True),
    "picture in SVG": loading("<svg><image href=http://SECRET/ width=9 height=9 /></svg>", screenshot=True),
    "picture of a button": loading("<input type=image src=http://SECRET/>", screenshot=True),
    "background": loading("<p style='background: url(http://SECRET/)'>", screenshot=True),
    "font": loading(
        "<style>@font-face {font-family: f; src: url(http://SECRET/)} p {font-family: f}</style><p>A", screenshot=True
    ),
    "video": loading("<video src=http://SECRET/></video>", screenshot=True),
    "subtitles": loading(
        "<video crossorigin><track default src=http://SECRET/></video>"
        "<script>document.querySelector('track').track.mode = 'showing'</script>",
        screenshot=True,
    ),
    "frame": loading("<iframe src=http://SECRET/></iframe>"),
    "frameset": Attack(page=Served("<frameset><frame src=http://SECRET/></frameset>")),
    "frame that is redirected": loading("<iframe src=/to-the-secret></iframe>"),
    "script that is redirected": loading("<script src=/to-the-secret></script>"),
    "fetch that is redirected": running("fetch('/to-the-secret', {mode: 'no-cors'})"),
    "frame of its own making": loading('<iframe srcdoc="<script src=http://SECRET/></script>"></iframe>'),
    "frame of data": loading('<iframe src="data:text/html,<script src=http://SECRET/></script>"></iframe>'),
    "frame of a script": loading("<iframe src=\"javascript:fetch('http://SECRET/', {mode: 'no-cors'})\"></iframe>"),
    "object": loading("<object data=http://SECRET/></object>"),
    "embed": loading("<embed src=http://SECRET/ type=text/html>"),
    "base": loading("<base href=http://SECRET/><script src=a.js></script>", held=""),
    "preload": loading("<link rel=preload as=script href=http://SECRET/>"),
    "preload by a header": loading("", Link="<http://SECRET/>; rel=preload; as=script"),
    "prefetch": loading("<link rel=prefetch href=http://SECRET/>"),
    "ping": loading("<a href=#x ping=http://SECRET/>A</a><script>document.querySelector('a').click()</script>"),
    "fetch": running("fetch('http://SECRET/')"),
    "fetch without reading": running("fetch('http://SECRET/', {mode: 'no-cors'})"),
    "fetch that outlives the page": running("fetch('http://SECRET/', {mode: 'no-cors', keepalive: true})"),
    "fetch that asks first": running("fetch('http://SECRET/', {method: 'DELETE', headers: {'X-A': '1'}})"),
    "fetch over TLS": running("fetch('https://SECRET/', {mode: 'no-cors'}).catch(() => 0)"),
    "POST": running("fetch('http://SECRET/', {method: 'POST', mode: 'no-cors', body: 'x'})"),
    "XMLHttpRequest": running("x = new XMLHttpRequest; x.open('GET', 'http://SECRET/'); x.send()"),
    "beacon": running("navigator.sendBeacon('http://SECRET/', 'x')"),
    "events": running("new EventSource('http://SECRET/')"),
    "WebSocket": running("new WebSocket('ws://SECRET/')"),
    "WebSocket over TLS": running("new WebSocket('wss://SECRET/')"),
    "WebRTC over TCP": calling("turn:SECRET"),
    "WebRTC over TLS": calling("turns:SECRET"),
    "worker": running("""new Worker(URL.createObjectURL(new Blob(["fetch('http://SECRET/', {mode: 'no-cors'})"])))"""),
    "worker's script": running("""new Worker(URL.createObjectURL(new Blob(["importScripts('http://SECRET/')"])))"""),
    "shared worker": running("new SharedWorker('/worker.js')"),
    "form": loading(
        "<form method=post action=http://SECRET/><input name=a></form><script>document.forms[0].submit()</script>"
    ),
    "form into a frame": loading(
        "<iframe name=f></iframe><form target=f action=http://SECRET/></form><script>document.forms[0].submit()</script>"
    ),
    "popup": loading("<a target=_blank href=http://SECRET/>A</a><script>document.querySelector('a').click()</script>"),
    "navigation": running("location = 'http://SECRET/'"),
    "refresh": loading("<meta http-equiv=refresh content='0; url=http://SECRET/'>", held=AND_WHILE_THE_PAGE_GOES_ON),
    "refresh by a header": loading("", held=AND_WHILE_THE_PAGE_GOES_ON, Refresh="0; url=http://SECRET/"),
    "goodbye": running("onpagehide = () => navigator.sendBeacon('http://SECRET/', 'x'); location = '/ordinary'"),
    "report": loading(
        "<img src=/picture>", screenshot=True, Content_Security_Policy="img-src 'none'; report-uri http://SECRET/"
    ),
}

NAMES: dict[str, Attack] = {
    "name that changes between two pages": Attack(CHANGING, names=CHANGES, before=CHANGING, browser=False),
    "name that changes between two pages in a browser": Attack(CHANGING, names=CHANGES, before=CHANGING),
    "name that changes under a page": replace(running("fetch('/?again')", held=""), url=CHANGING, names=CHANGES),
}

ATTACKS = ADDRESSES | REDIRECTS | PAGES | NAMES
