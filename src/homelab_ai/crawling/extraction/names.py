"""What the class names and ids of elements say about their content, as far as authors of pages agree."""

import functools
import re

_GROUPS = {
    "content": "content article post entry body story text page main markdown prose rich rte wysiwyg doc docs",
    "detail": "description desc product detail details spec specs specification specifications feature features "
    "overview summary about info pdp faq accordion tab tabs",
    "talk": "comment comments reply replies message messages thread threads topic discussion forum answer answers "
    "question questions conversation review reviews",
    "item": "item items card cards tile list listing grid result results row entry teaser col collection catalog",
    "nav": "nav navbar navigation menu menus megamenu submenu breadcrumb breadcrumbs crumb crumbs pagination pager toc "
    "toolbar skip dropdown drawer offcanvas flyout tabs",
    "foot": "footer foot colophon copyright legal bottom disclaimer",
    "head": "header masthead topbar top branding logo site",
    "side": "sidebar side aside widget widgets rail secondary",
    "more": "related recommend recommended recommendation recommendations similar more popular trending also suggested "
    "suggestions latest recent next prev previous upsell cross carousel slider swiper recently viewed",
    "share": "share sharing social socials follow like likes rating vote votes",
    "promo": "cookie cookies consent gdpr newsletter subscribe subscription signup login signin register modal popup "
    "overlay ad ads advert advertisement sponsor sponsored promo promotion banner cta announcement notice alert toast "
    "captcha paywall optin",
    "meta": "meta author byline date tag tags category categories timestamp avatar user username profile badge caption "
    "credit",
    "shop": "cart checkout price prices buy add wishlist shipping quantity variant swatch filter filters facet facets "
    "sort refine search minicart form button btn action actions control controls",
    "unseen": "hidden hide sr visually screen invisible collapse tooltip print",
}
_OF_WORD: dict[str, set[str]] = {}
for _group, _words in _GROUPS.items():
    for _word in _words.split():
        _OF_WORD.setdefault(_word, set()).add(_group)

GROUPS = tuple(_GROUPS)
_CAMEL = re.compile(r"(?<=[a-z])(?=[A-Z])")
_PARTS = re.compile(r"[A-Za-z]+")


@functools.lru_cache(maxsize=10_000)
def groups(names: str) -> frozenset[str]:
    """Return the groups that the words in class and id belong to."""
    found: set[str] = set()
    for word in _PARTS.findall(_CAMEL.sub(" ", names[:500])):
        found |= _OF_WORD.get(word.lower(), set())
    return frozenset(found)
