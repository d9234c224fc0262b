"""The villain's pages want into the home. With the guard none gets in; with its decision switched off each does.

The second half shows that the first can see: an attack that comes to nothing by itself would pass it, too.
"""

import pytest

from homelab_ai.crawling.egress.passage import Passage
from homelab_ai.crawling.egress.policy import Policy
from homelab_ai.crawling.service import Page
from homelab_ai.errors import CrawlBlocked
from support.attacks import ATTACKS, NAMES, Attack
from support.browsers import NEEDS_CHROMIUM
from support.egress import PUBLIC
from support.villain import TEXT, World

pytestmark = [pytest.mark.anyio, NEEDS_CHROMIUM]

every_attack = pytest.mark.parametrize("attack", ATTACKS.values(), ids=ATTACKS)


async def carry_out(attack: Attack, home: World) -> Page:
    """Have the service read the villain's page."""
    attack = attack.aimed(home.secret.port)
    home.internet.names |= {name: [*answers] for name, answers in attack.names.items()}
    home.villain.pages["/"] = attack.page
    if attack.before:
        await home.crawl(attack.before, wait_for_js=False)
    return await home.crawl(attack.url, wait_for_js=attack.browser, screenshot=attack.screenshot)


@every_attack
async def test_it_does_not_get_in(home: World, attack: Attack) -> None:
    try:
        page = await carry_out(attack, home)
    except CrawlBlocked:
        pass
    else:
        assert page.complete
        assert page.blocked or attack is NAMES["name that changes under a page"]
        assert "secret" not in page.extracted.text
    assert home.secret.arrived == 0
    assert {address for address, _ in home.internet.dialled} <= {PUBLIC}
    assert TEXT in (await home.crawl("/ordinary", wait_for_js=attack.browser)).extracted.text


@every_attack
async def test_without_the_guards_decision_it_does(
    home: World, attack: Attack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Policy, "objection", lambda *_: None)
    monkeypatch.setattr(Passage, "addresses_of", lambda passage, host: passage._resolve(host))
    await carry_out(attack, home)
    assert home.secret.arrived
