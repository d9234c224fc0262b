"""A page in the browser of a machine that is alone in a home's network: what leaves the machine, proxy or not.

`at_home` runs this module as a program, with SCRIPT and FLAGs, in a network namespace of its own. There it makes an
interface, 192.168.1.1, and holds the other end of its cable. SCRIPT is what the page runs; FLAGs are given to Chromium
after those of the service, whose place they take. Prints, as JSON, the kinds of frames that have left, how many
datagrams have come to the machine's own address at home, what the page has said, and how often it was loaded. In the
middle of its first request to https://change.test, the machine is given another address.
"""

import asyncio
import fcntl
import json
import os
import shutil
import socket
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from homelab_ai.crawling.browser import Browser, Wishes
from homelab_ai.crawling.browser_process import BrowserProcess
from homelab_ai.settings import CrawlSettings
from support.clock import Clock
from support.server import REPOSITORY
from support.sites import Asked, Pages, Proxy, Served, Site

_NAMESPACE = ("unshare", "--user", "--map-root-user", "--net")
ADDRESS, ANOTHER = "192.168.1.1", "192.168.1.2"
_STUN = 3478
_TUNSETIFF, _IFF_TAP, _IFF_NO_PI = 0x400454CA, 0x0002, 0x1000
_ETHERNET_HEAD = slice(12, 14)


def at_home(script: str, *flags: str) -> Any:
    """What comes of a page's script on such a machine. Skips the test where none can be made."""
    able = [*_NAMESPACE, "sh", "-c", "test -w /dev/net/tun && command -v ip"]
    if not shutil.which("unshare") or subprocess.run(able, capture_output=True, check=False).returncode:
        pytest.skip("no network namespace can be made here, or no interface in it")
    paths = f"PYTHONPATH={REPOSITORY / 'src'}:{REPOSITORY / 'tests'}"
    command = [*_NAMESPACE, "env", paths, sys.executable, "-m", "support.lan", script, *flags]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


class Lan:
    """The interface, the other end of which this program holds."""

    def __init__(self) -> None:
        self.left: list[str] = []
        """What was in the frames that have left, by Ethernet's number for it."""
        self._tap = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
        fcntl.ioctl(self._tap, _TUNSETIFF, struct.pack("16sH", b"lan", _IFF_TAP | _IFF_NO_PI))
        Path("/proc/sys/net/ipv6/conf/lan/disable_ipv6").write_text("1")  # the kernel would speak of itself
        run("link set lo up")
        run(f"addr add {ADDRESS}/24 dev lan")
        run("link set lan up")
        run("route add default via 192.168.1.254")
        asyncio.get_running_loop().add_reader(self._tap, self._read)

    def _read(self) -> None:
        self.left.append(os.read(self._tap, 65536)[_ETHERNET_HEAD].hex())


def run(command: str) -> None:
    """Change the network."""
    subprocess.run(["ip", *command.split()], check=True)


class ChangingProxy(Proxy):
    """Gives the machine another address, and no answer, when it is first asked for a tunnel to `change.test`."""

    async def hold(self, target: str) -> None:
        if [seen for _, seen in self.seen].count("change.test:443") == 1 and target.startswith("change."):
            run(f"addr add {ANOTHER}/24 dev lan")
            await asyncio.get_running_loop().create_future()


async def main(script: str, flags: list[str]) -> None:
    lan, heard = Lan(), asyncio.Event()
    datagrams: list[bytes] = []
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as ear:
        ear.bind((ADDRESS, _STUN))
        ear.settimeout(0)

        def hear() -> None:
            datagrams.append(ear.recv(65536))
            heard.set()

        asyncio.get_running_loop().add_reader(ear, hear)

        async def when_heard(asked: Asked) -> Served:
            await heard.wait()
            return Served("")

        browser = Browser(CrawlSettings(), Clock(), lambda options: BrowserProcess.start(options | {"flags": flags}))
        pages: Pages = {"/": Served(f"<pre></pre><script>{script}</script>"), "/heard": when_heard}
        async with Site(pages) as site, ChangingProxy(site) as proxy:
            wishes = Wishes(seconds=30, max_bytes=100_000, wait_for_selector="article")
            page = await browser.render("http://site.test/", proxy.passage(), wishes)
        await browser.close()
    said = page.body.decode().partition("<pre>")[2].partition("</pre>")[0]
    seen = {"left": lan.left, "datagrams": len(datagrams), "said": said, "loads": site.paths().count("/")}
    print(json.dumps(seen))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2:]))
