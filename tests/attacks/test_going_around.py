"""Ways on which the browser alone, and not the guard, stands: beside the proxy, and into this machine's own files.

For WebRTC there is a control, the browser without the flag. For the rest there is none: behind a proxy Chromium asks
for no name and speaks no QUIC, whatever its flags, and no flag has a page of the web read files.
"""

from pathlib import Path

import pytest

from homelab_ai.crawling.service import Order
from homelab_ai.errors import CrawlFailed, InvalidRequest
from support.browsers import NEEDS_CHROMIUM
from support.lan import ADDRESS, at_home
from support.sites import Served
from support.villain import World

pytestmark = [pytest.mark.anyio, NEEDS_CHROMIUM]

CALL = f"""
const done = () => document.body.append(document.createElement("article"));
const call = new RTCPeerConnection({{iceServers: [{{urls: "stun:{ADDRESS}"}}]}});
call.createDataChannel("c");
call.onicecandidate = event => event.candidate
  ? document.querySelector("pre").append(event.candidate.candidate + " ") : done();
call.createOffer().then(offer => call.setLocalDescription(offer));
fetch("/heard").then(done);
"""
BESIDE_THE_PROXY = "--force-webrtc-ip-handling-policy=default"


def test_webrtc_sends_nothing_but_through_the_proxy() -> None:
    assert at_home(CALL) == {"left": [], "datagrams": 0, "said": "", "loads": 1}


def test_without_its_flag_webrtc_would_be_seen() -> None:
    seen = at_home(CALL, BESIDE_THE_PROXY)
    assert seen["datagrams"]
    assert f" {ADDRESS} " in seen["said"]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "keys.html"
    path.write_text("<script>top.postMessage('the key under the mat', '*')</script><p>the key under the mat")
    return path


@pytest.mark.parametrize("scheme", ["file://{}", "view-source:file://{}", "view-source:http://villain.test/"])
@pytest.mark.parametrize("browser", [False, True], ids=["fetched", "in a browser"])
async def test_other_addresses_than_those_of_pages(home: World, file: Path, scheme: str, *, browser: bool) -> None:
    address = scheme.format(file)
    with pytest.raises(InvalidRequest):
        await home.service.crawl(Order(address, wait_for_js=browser))
    home.villain.pages["/"] = Served(status=302, headers={"Location": address})
    with pytest.raises(CrawlFailed):
        await home.crawl("/", wait_for_js=browser)


WAYS = {
    "frame": "<iframe src={}></iframe>",
    "object": "<object data={}></object>",
    "embed": "<embed src={}>",
    "script": "<script src={}></script>",
    "style": "<link rel=stylesheet href={}>",
    "fetch": "<script>fetch('{}').then(r => r.text()).then(t => document.body.append(t)).catch(() => 0)</script>",
    "request": "<script>x = new XMLHttpRequest; x.onload = () => document.body.append(x.response);"
    "x.open('GET', '{}'); x.send()</script>",
    "navigation": "<script>location = '{}'</script>",
    "frame's navigation": "<iframe name=f></iframe><script>f.location = '{}'</script>",
    "link": "<a href={}>A</a><script>document.querySelector('a').click()</script>",
    "form": "<form action={}></form><script>document.forms[0].submit()</script>",
    "refresh": "<meta http-equiv=refresh content='0; url={}'>",
    "worker": "<script>try {{ new Worker('{}') }} catch {{ }}</script>",
}


@pytest.mark.parametrize("scheme", ["file://{}", "view-source:file://{}", "chrome://version/?{}"])
@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
async def test_pages_read_no_files(home: World, file: Path, scheme: str, way: str) -> None:
    heard = "<script>onmessage = event => document.body.append(event.data)</script>"
    home.villain.pages["/"] = Served(f"<!doctype html><body><p>Before</p>{heard}{way.format(scheme.format(file))}")
    page = await home.crawl("/", wait_for_js=True, formats=("html",))
    assert (page.url, page.complete) == ("http://villain.test/", True)
    assert "Before" in page.extracted.text
    assert "under the mat" not in (page.extracted.html or "")
