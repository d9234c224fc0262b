"""Pages of every kind, written for these tests: what is kept of them, and which strategy answers."""

import pytest

from homelab_ai.crawling.extraction.extract import extract
from homelab_ai.crawling.extraction.extracted import Extracted

URL = "https://example.org/some/page"

NAVIGATION = """<header class="site-header"><a href="/">Garden House</a><nav class="main-nav"><ul>
<li><a href="/shop">Shop everything</a></li><li><a href="/journal">Journal</a></li>
<li><a href="/visit">Visit us</a></li>
<li><a href="/account">Your account</a></li></ul></nav></header>"""
FOOTER = """<aside class="cookie-banner">We use cookies to make this site better. <button>Accept all</button></aside>
<footer class="site-footer"><ul><li><a href="/privacy">Privacy policy</a></li><li><a href="/terms">Terms of use</a></li>
<li><a href="/jobs">Careers</a></li></ul><p>© 2031 Garden House. All rights reserved.</p></footer>"""
NEVER = ("Shop everything", "Accept all", "Privacy policy", "All rights reserved")


def page(main: str, head: str = "<title>A page</title>") -> str:
    return f"<!doctype html><html lang='en-GB'><head>{head}</head><body>{NAVIGATION}{main}{FOOTER}</body></html>"


def of(main: str, head: str = "<title>A page</title>") -> Extracted:
    found = extract(page(main, head).encode(), URL, "text/html; charset=utf-8")
    for text in NEVER:
        assert text not in found.text
    return found


PARAGRAPHS = (
    (
        "Tomatoes that are sown in the first weeks of March, on a warm windowsill, will be strong enough for the "
        "greenhouse in April. They want light more than warmth, and they do not forgive wet feet."
    ),
    (
        "Whoever sows later, in May for instance, need not despair: the plants grow faster then, and by July nobody "
        "can tell which ones had a head start. Only the very early fruit is lost."
    ),
    (
        "Feed them once a week when the first flowers have set. Nettle water does as well as anything that money can "
        "buy, though the neighbours may disagree for reasons of their own."
    ),
)


def test_an_article() -> None:
    body = "".join(f"<p>{text}</p>" for text in PARAGRAPHS)
    found = of(f"<main><article><h1>When to sow tomatoes</h1>{body}</article></main>")
    assert found.strategy == "blocks"
    for text in PARAGRAPHS:
        assert text in found.text
    assert found.language == "en-gb"
    assert found.title == "A page"


POSTS = (
    ("fern", "My lemon tree drops all its leaves every winter, although it stands in the kitchen. What do I do wrong?"),
    ("moss", "Too warm and too dark, I would say. Mine stands in the stairwell, at ten degrees, and keeps every leaf."),
    ("ivy", "Mine does that too! It comes back each spring, so I have stopped worrying about it."),
    ("reed", "Do you water it in winter? Once in three weeks is plenty, and never with cold water from the tap."),
)


def test_a_forum_keeps_every_post() -> None:
    posts = "".join(
        f"""<div class="post" id="post-{number}"><div class="post-author"><a href="/u/{name}">{name}</a></div>
        <div class="post-body"><p>{text}</p></div><div class="post-controls"><a href="#">Quote</a></div></div>"""
        for number, (name, text) in enumerate(POSTS)
    )
    found = of(f'<div id="thread" class="topic"><h1>Lemon tree drops leaves</h1>{posts}</div>')
    for _, text in POSTS:
        assert text in found.text


PRODUCT = """<main><div class="product-page"><h1 class="product-title">Copper watering can</h1>
<div class="price">48.00</div><button class="add-to-cart">Add to cart</button>
<div class="product-description"><p>A watering can of solid copper, made by hand in a village by the sea. It holds two
litres, pours without dripping and turns a softer brown with every summer.</p></div>
<table class="product-specifications"><tr><th>Capacity</th><td>2 litres</td></tr>
<tr><th>Weight</th><td>640 grams</td></tr>
</table></div><section class="related-products"><h2>You may also like</h2><ul>
<li class="card"><a href="/p/1">Zinc bucket</a></li><li class="card"><a href="/p/2">Brass mister</a></li>
<li class="card"><a href="/p/3">Clay saucer</a></li></ul></section></main>"""


def test_a_product_is_its_description_and_its_table() -> None:
    found = of(PRODUCT)
    assert "made by hand in a village by the sea" in found.text
    assert "Capacity" in found.text
    assert "Zinc bucket" not in found.text


def test_a_listing_keeps_its_items() -> None:
    items = "".join(
        f"""<li class="result-item"><h2><a href="/walk/{number}">Walk {number}: along the river</a></h2>
        <p>{7 + number} kilometres past the old mill, with a bench and a view half way.</p></li>"""
        for number in range(12)
    )
    found = of(f'<main><h1>Walks near the town</h1><ul class="results">{items}</ul></main>')
    for number in range(12):
        assert f"{7 + number} kilometres past the old mill" in found.text
        assert f"Walk {number}: along the river" in found.text


DOCS = """<main class="docs-content"><h1>The pump module</h1><p>The module switches a pump on and off, by time or by the
moisture of the soil. Import it, tell it where the pump is, and start it.</p><h2>An example</h2>
<p>The following lines water the bed for ten minutes each evening, unless it has rained on that day.</p>
<pre><code class="language-python">from pump import Pump

if not rained():
    Pump("bed").run(minutes=10)</code></pre>
<h2>Parameters</h2><table><thead><tr><th>Name</th><th>Meaning</th></tr></thead><tbody>
<tr><td><code>minutes</code></td><td>How long it runs</td></tr>
<tr><td><code>name</code></td><td>Which pump | which bed</td>
</tr></tbody></table><p>See also <a href="../other.html">the other module</a>, which measures the moisture:</p>
<ol><li>Put the sensor into the soil.</li><li>Wait for <strong>one hour</strong>.<ul><li>Two in winter.</li></ul></li>
</ol><blockquote>Water is life.</blockquote></main>"""


def test_documentation_as_markdown() -> None:
    found = of(DOCS)
    assert "# The pump module" in found.markdown
    assert "## Parameters" in found.markdown
    assert (
        '```python\nfrom pump import Pump\n\nif not rained():\n    Pump("bed").run(minutes=10)\n```' in found.markdown
    )
    assert "| Name | Meaning |\n| --- | --- |\n| `minutes` | How long it runs |" in found.markdown
    assert "which pump \\| which bed" in found.markdown.lower()
    assert "[the other module](https://example.org/other.html)" in found.markdown
    assert "1. Put the sensor into the soil.\n2. Wait for **one hour**" in found.markdown
    assert "\n   - Two in winter." in found.markdown
    assert "> Water is life." in found.markdown


@pytest.mark.parametrize("nothing", ["", " ", "<html></html>", "<!-- -->", "<html><body></body></html>", "\0"])
def test_an_empty_page(nothing: str) -> None:
    found = extract(nothing.encode(), URL, "text/html")
    assert (found.text, found.markdown, found.links, found.strategy) == ("", "", [], "empty")


def test_a_page_that_a_script_would_fill_says_what_its_head_says() -> None:
    head = '<title>Shop</title><meta name="description" content="Everything for balconies.">'
    found = extract(f"<head>{head}</head><body><div id=root></div><script>start()</script>".encode(), URL, "text/html")
    assert (found.text, found.strategy) == ("Everything for balconies.", "description")


def test_a_page_that_a_script_would_fill_may_hold_its_text_as_json_ld() -> None:
    data = '{{"@type": "Article", "articleBody": "{}", "author": {{"name": "Ada Fern"}}}}'.format(" ".join(PARAGRAPHS))
    html = f'<body><script type="application/ld+json">{data}</script><div id=app></div></body>'
    found = extract(html.encode(), URL, "text/html")
    assert found.strategy == "structured_data"
    assert found.text == " ".join(PARAGRAPHS)
    assert found.metadata["author"] == "Ada Fern"


def test_frames_alone_are_no_text() -> None:
    html = b"<html><head><title>Old</title></head><frameset><frame src=a.html><frame src=b.html></frameset></html>"
    found = extract(html, URL, "text/html")
    assert (found.title, found.text) == ("Old", "")


def test_broken_html_is_read_as_far_as_it_goes() -> None:
    html = f"<body><div><p>{PARAGRAPHS[0]}<p>{PARAGRAPHS[1]}<b><i></b></div></span><p>{PARAGRAPHS[2]}<table><tr><td"
    found = extract(html.encode(), URL, "text/html")
    for text in PARAGRAPHS:
        assert text in found.text


@pytest.mark.parametrize("tag", ["main", "article", "section", "p", "custom-element"])
@pytest.mark.parametrize("after", ["", "<p>And a last one.", "<body><p>And a last one."])
def test_a_page_need_not_say_where_its_body_begins(tag: str, after: str) -> None:
    found = extract(f"<!doctype html><title>A</title><{tag}>{PARAGRAPHS[0]}</{tag}>{after}".encode(), URL, "text/html")
    assert (found.title, found.text.partition("\n")[0]) == ("A", PARAGRAPHS[0])


def test_a_page_from_right_to_left() -> None:
    text = "هذه صفحة عن الحدائق والأشجار، وفيها كلام كثير عن الزهور التي تحتاج إلى الماء كل يوم في الصيف الحار. " * 3
    found = extract(f"<html lang=ar dir=rtl><body><article><p>{text}</p></article>".encode(), URL, "text/html")
    assert text.strip() in found.text
    assert found.language == "ar"


def test_links_are_absolute_and_each_is_there_once() -> None:
    html = """<base href="/deep/"><body><a href="a?x=1#y">One</a> <a href="/b"><img src=x></a><a href="/b">Two</a>
    <a href="javascript:alert(1)">No</a>
    <a href="mailto:a@example.org">No</a><a href="">No</a><a href="http://[">No</a>"""
    assert extract(html.encode(), URL, "text/html").links == [
        ("https://example.org/deep/a?x=1#y", "One"),
        ("https://example.org/b", "Two"),
    ]


def test_metadata() -> None:
    head = """<title> A
    title </title><meta property="og:image" content="/a.png"><meta name=author content="Ada Fern">
    <meta property="og:site_name" content="Garden"><meta property="article:published_time" content="2031-05-06">
    <link rel=canonical href="/canonical"><meta property="og:type" content=article><meta name=description content=Of>"""
    found = of("".join(f"<p>{text}</p>" for text in PARAGRAPHS), head)
    assert found.title == "A title"
    assert found.metadata == {
        "author": "Ada Fern",
        "date": "2031-05-06",
        "description": "Of",
        "image": "https://example.org/a.png",
        "site_name": "Garden",
        "page_type": "article",
        "canonical_url": "https://example.org/canonical",
    }


def test_marks_stand_beside_their_words() -> None:
    text = "<b> Early </b>sowing,<i></i> <b>late<p>harvest</p></b> and <em>much <code>work</code></em> in between."
    found = extract(f"<body><article><p>{text}</p></article>".encode(), URL, "text/html")
    assert found.markdown == "**Early** sowing, **late**\n\nharvest\n\nand *much `work`* in between."


def test_pictures_between_paragraphs_stand_in_the_markdown() -> None:
    first, second, third = (f"<p>{text}</p>" for text in PARAGRAPHS)
    found = of(f'<article>{first}<figure><img src="/t.jpg" alt="A ripe tomato"></figure>{second}{third}</article>')
    assert "![A ripe tomato](https://example.org/t.jpg)" in found.markdown


def test_json_ld_that_is_deep_or_wrong_is_passed_over() -> None:
    for data in (
        "{",
        "[" * 5000 + "]" * 5000,
        '{"@type": 1, "author": [[]], "datePublished": {}}',
        '{"@type":"A","author":[]}',
    ):
        found = extract(f'<script type="application/ld+json">{data}</script><p>Text'.encode(), URL, "text/html")
        assert "Text" in found.text


def test_deep_nesting() -> None:
    html = b"<div>" * 100_000 + b"deep" + b"</div>" * 100_000
    assert extract(html, URL, "text/html").strategy in {"empty", "blocks"}


def test_tags_that_are_never_closed_cost_no_text() -> None:
    html = "<body><article>" + "".join(f"<p><b>{text} " for text in PARAGRAPHS * 200)
    assert extract(html.encode(), URL, "text/html").text.count("They want light") == 200


def test_many_small_elements() -> None:
    found = extract(b"<p>" + b"<b>word</b> " * 50_000, URL, "text/html")
    assert found.text.count("word") in {0, 50_000}
