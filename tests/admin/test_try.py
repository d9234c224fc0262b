"""Try it: texts, pictures and web pages, with real models, and each request as it is to be sent from elsewhere."""

import base64
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from models.shapes import caption, draw
from support import trying
from support.images import saved
from support.server import Server
from support.tab import PHONE, Look, Tab
from support.trying import BLUE, KEY, ONLY_TEXTS, PICTURE, SENTENCE, copied, run_elsewhere, sent, tool

pytestmark = pytest.mark.timeout(300)

AWKWARD = [
    'it\'s "quoted" and costs $HOME',
    "`id` $(id) ${HOME} !! \\n \\\\ %s",
    "Grüße, 猫, 🐈 and a tab\there",
    "-d @/etc/passwd ; rm -rf / # ' '' '\\''",
]


@pytest.fixture(scope="module")
def site() -> Iterator[str]:
    with trying.site() as address:
        yield address


@pytest.fixture(scope="module")
def service(site: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with trying.service(tmp_path_factory.mktemp("tried"), site) as running:
        yield running


@pytest.fixture
def tried(browser: Browser, service: Server) -> Iterator[Tab]:
    with Tab(browser, service.url, permissions=["clipboard-read", "clipboard-write"]) as tab:
        tab.open("try")
        tab.say_key(KEY)
        yield tab


def figures(panel: Locator) -> list[list[str]]:
    rows = panel.locator(".heatmap tbody tr")
    return [row.locator("td").all_inner_texts() for row in rows.all()]


# --- texts


def test_a_newcomer_sees_which_two_sentences_are_alike(tried: Tab, service: Server) -> None:
    panel = tool(tried, "Embed")
    answer = sent(tried, "Embed")
    expect(panel.locator(".verdict")).to_contain_text(
        "Most alike are 1 “The cat sleeps on the warm sofa” and 2 “A kitten"
    )
    vectors = answer["embeddings"]
    wanted = [[f"{sum(a * b for a, b in zip(one, other, strict=True)):.2f}" for other in vectors] for one in vectors]
    assert figures(panel) == wanted, "unit vectors: their product is the cosine"
    expect(panel.get_by_role("rowheader")).to_have_count(3)
    expect(panel.get_by_role("columnheader", name="3 The boiler in the cellar needs a new valve")).to_be_visible()
    assert panel.locator("td.best").all_inner_texts() == [wanted[0][1]] * 2
    expect(panel.get_by_role("status").first).to_contain_text("tokenized")
    expect(panel.get_by_text("3 vectors of 384 numbers")).to_be_visible()
    tried.assert_accessible()


def test_awkward_texts_come_through_a_shell_and_python_unchanged(tried: Tab, tmp_path: Path) -> None:
    panel = tool(tried, "Embed")
    panel.get_by_label("Texts, one in each line").fill("\n".join(AWKWARD))
    panel.get_by_label("Model").select_option("another")
    answer = sent(tried, "Embed")
    assert answer["model_used"] == "another"
    for other in run_elsewhere(tried, panel, tmp_path):
        assert other["model_used"] == "another"
        assert other["dimensions"] == 384
        for one, again in zip(answer["embeddings"], other["embeddings"], strict=True):
            assert one == pytest.approx(again, abs=0.01)


def test_only_models_that_embed_are_offered_and_the_default_is_not_named(tried: Tab) -> None:
    panel = tool(tried, "Embed")
    options = panel.get_by_label("Model").get_by_role("option")
    expect(options).to_have_count(2)
    expect(options.nth(0)).to_contain_text("minilm (default")
    expect(options.nth(1)).to_contain_text("another")
    sent(tried, "Embed")
    assert "model" not in copied(tried, panel, "curl", "as curl")


def test_one_text_and_none(tried: Tab) -> None:
    panel = tool(tried, "Embed")
    panel.get_by_label("Texts, one in each line").fill("  \n \n")
    panel.get_by_role("button", name="Embed", exact=True).click()
    expect(panel.get_by_role("alert")).to_contain_text("Write at least one text")
    panel.get_by_label("Texts, one in each line").fill("alone")
    sent(tried, "Embed")
    expect(panel.locator(".verdict")).to_contain_text("nothing to be compared with")
    expect(panel.get_by_role("alert")).to_have_count(0)


def test_many_texts_are_embedded_and_the_first_compared(tried: Tab) -> None:
    panel = tool(tried, "Embed")
    panel.get_by_label("Texts, one in each line").fill("\n".join(f"sentence number {number}" for number in range(40)))
    assert len(sent(tried, "Embed")["embeddings"]) == 40
    expect(panel.get_by_text("The first 30 of 40 texts are compared")).to_be_visible()
    expect(panel.get_by_role("rowheader")).to_have_count(30)
    tried.assert_fits()


def test_what_was_typed_and_answered_outlives_a_look_elsewhere(tried: Tab) -> None:
    panel = tool(tried, "Embed")
    panel.get_by_label("Texts, one in each line").fill("one\ntwo")
    sent(tried, "Embed")
    tried.open("keys")
    expect(tried.heading("Keys")).to_be_visible()
    tried.open("try")
    expect(panel.get_by_label("Texts, one in each line")).to_have_value("one\ntwo")
    expect(panel.locator(".heatmap")).to_be_visible()


def test_a_very_long_error_is_shown_and_breaks_nothing(browser: Browser, service: Server) -> None:
    with Tab(browser, service.url, viewport=PHONE) as tab:
        tab.open("try/crawl")
        tab.say_key(KEY)
        panel = tool(tab, "Crawl")
        panel.get_by_label("Address of the page").fill(f"http://{'long' * 300}.test/")
        error = sent(tab, "Read")["error"]
        alert = panel.get_by_role("alert")
        expect(alert).to_contain_text(error["message"])
        expect(alert).to_contain_text(error["request_id"])
        tab.assert_fits()
        tab.assert_accessible()


def test_a_key_without_the_scope_is_told_what_it_lacks(browser: Browser, service: Server) -> None:
    with Tab(browser, service.url) as tab:
        tab.open("try")
        tab.say_key(ONLY_TEXTS)
        expect(tool(tab, "Caption").get_by_text("This needs the scope caption. texts has embed.")).to_be_visible()
        panel = tool(tab, "Embed")
        sent(tab, "Embed")
        expect(panel.locator(".verdict")).to_contain_text("Most alike")


def test_where_no_key_is_needed_the_lines_name_none(tab: Tab) -> None:
    tab.open("try")
    panel = tool(tab, "Embed")
    sent(tab, "Embed")
    code = panel.get_by_role("region", name="The request as curl")
    expect(code).not_to_contain_text("Authorization")
    panel.get_by_label("with an API key").check()
    expect(code).to_contain_text('-H "Authorization: Bearer $HOMELAB_AI_API_KEY"')


# --- pictures


def test_a_picture_from_a_file_is_described_here_and_elsewhere(tried: Tab, tmp_path: Path) -> None:
    panel = tool(tried, "Caption")
    name = 'it\'s a; "shape", really.png'
    (tmp_path / name).write_bytes(saved(draw(PICTURE), "PNG"))
    panel.locator("input[type=file]").set_input_files(tmp_path / name)
    expect(panel.locator(".pictures img")).to_have_js_property("complete", value=True)
    answer = sent(tried, "Describe")
    assert answer["caption"] == caption(PICTURE)
    expect(panel.locator("figcaption")).to_contain_text(caption(PICTURE))
    tried.assert_accessible()
    for other in run_elsewhere(tried, panel, tmp_path):
        assert (other["caption"], other["model_used"]) == (answer["caption"], "shapes")


def test_pictures_that_are_dropped_pasted_and_linked_are_a_batch(tried: Tab, site: str, tmp_path: Path) -> None:
    panel = tool(tried, "Caption")
    for event, target, number in (("drop", ".dropzone", 0), ("paste", "body", 1)):
        content = base64.b64encode(saved(draw((PICTURE, BLUE)[number]), "PNG")).decode()
        (tmp_path / f"{event}.png").write_bytes(base64.b64decode(content))
        tried.page.evaluate(
            """async ([event, target, content]) => {
              const bytes = Uint8Array.from(atob(content), (letter) => letter.charCodeAt(0));
              const data = new DataTransfer();
              data.items.add(new File([bytes], `${event}.png`, { type: "image/png" }));
              const options = { bubbles: true, cancelable: true, dataTransfer: data, clipboardData: data };
              const made = event === "paste" ? new ClipboardEvent(event, options) : new DragEvent(event, options);
              document.querySelector(target).dispatchEvent(made);
            }""",
            [event, target, content],
        )
    panel.get_by_label("Or the address of one").fill(f"{site}/cat.png")
    panel.get_by_role("button", name="Add", exact=True).click()
    panel.get_by_label("Or the address of one").fill("http://192.168.1.1/router.png")
    panel.get_by_label("Or the address of one").press("Enter")
    answer = sent(tried, "Describe")
    wanted = [caption(PICTURE), caption(BLUE), caption(PICTURE)]
    assert [item["caption"] for item in answer["captions"][:3]] == wanted
    shown = panel.locator("figcaption")
    for number, words in enumerate(wanted):
        expect(shown.nth(number)).to_contain_text(words)
    expect(shown.nth(3).get_by_role("alert")).to_contain_text("CRAWL_BLOCKED")
    for other in run_elsewhere(tried, panel, tmp_path):
        assert [item.get("caption") for item in other["captions"]] == [*wanted, None]

    panel.get_by_role("button", name="Remove drop.png").click()
    panel.get_by_role("button", name="Remove paste.png").click()
    panel.get_by_role("button", name="Remove http://192.168.1.1/router.png").click()
    assert sent(tried, "Describe")["caption"] == caption(PICTURE)
    assert f'-d \'{{"image": "{site}/cat.png"}}\'' in copied(tried, panel, "curl", "as curl")


def test_what_is_no_address_is_not_added(tried: Tab) -> None:
    panel = tool(tried, "Caption")
    panel.get_by_label("Or the address of one").fill("cat.jpg")
    panel.get_by_role("button", name="Add", exact=True).click()
    expect(panel.get_by_text("An address begins with http")).to_be_visible()
    panel.get_by_role("button", name="Describe").click()
    expect(panel.get_by_role("alert")).to_contain_text("Add a picture first")


# --- web pages


def test_a_page_is_read_as_text_markdown_and_picture_side_by_side(tried: Tab, site: str, tmp_path: Path) -> None:
    panel = tool(tried, "Crawl")
    panel.get_by_label("Address of the page").fill(site)
    panel.get_by_label("Screenshot").select_option("true")
    panel.get_by_label("Links").check()
    answer = sent(tried, "Read")
    expect(panel.get_by_role("heading", name="The house book").first).to_be_visible()
    expect(panel.get_by_role("region", name="Text of the page")).to_contain_text(SENTENCE)
    prose = panel.locator(".prose")
    expect(prose.get_by_role("heading", name="Rooms")).to_be_visible()
    expect(prose.get_by_role("listitem")).to_have_text(["The kitchen", "The hall"])
    link = prose.get_by_role("link", name="The sweep")
    expect(link).to_have_attribute("href", "https://example.com/sweep")
    expect(link).to_have_attribute("rel", "noopener noreferrer")
    expect(link).to_have_attribute("target", "_blank")
    assert panel.locator(".prose :is(img, script, [onerror], a[href^=javascript])").count() == 0
    picture = panel.get_by_role("img", name="How the page looks: The house book")
    assert picture.evaluate("async (image) => { await image.decode(); return image.naturalWidth; }") > 600
    columns = [box["y"] for box in (each.bounding_box() for each in panel.locator(".columns section").all()) if box]
    assert len(columns) == 3
    assert len(set(columns)) == 1, "beside each other"
    panel.get_by_text("1 request of the page refused").click()
    expect(panel.get_by_text("http://192.168.1.1/router.png")).to_be_visible()
    tried.assert_accessible()
    for other in run_elsewhere(tried, panel, tmp_path):
        assert {**other, "request_id": 0, "fetch_time_ms": 0} == {**answer, "request_id": 0, "fetch_time_ms": 0}


def test_on_a_phone_the_three_are_behind_tabs(browser: Browser, service: Server, site: str) -> None:
    with Tab(browser, service.url, viewport=PHONE) as tab:
        tab.open("try/crawl")
        tab.say_key(KEY)
        panel = tool(tab, "Crawl")
        panel.get_by_label("Address of the page").fill(site)
        panel.get_by_label("A browser shows it").select_option("false")
        sent(tab, "Read")
        text = panel.get_by_role("region", name="Text of the page")
        expect(text).to_be_visible()
        panel.get_by_role("tab", name="Text", exact=True).press("ArrowRight")
        expect(panel.get_by_role("tab", name="Markdown")).to_be_focused()
        expect(panel.locator(".prose")).to_be_visible()
        expect(text).to_be_hidden()
        tab.assert_fits()
        tab.assert_accessible()


def test_a_request_can_be_stopped(tried: Tab, site: str) -> None:
    panel = tool(tried, "Crawl")
    held: list[Any] = []
    tried.page.route("**/api/crawl", lambda route: held.append(route))  # noqa: PLW0108 - a method it does not take
    panel.get_by_label("Address of the page").fill(site)
    panel.get_by_role("button", name="Read", exact=True).click()
    panel.get_by_role("button", name="Stop").click()
    expect(panel.get_by_role("status").first).to_have_text("Stopped.")
    expect(panel.get_by_role("button", name="Stop")).to_be_hidden()
    tried.page.unroute("**/api/crawl")
    assert sent(tried, "Read")["title"] == "The house book"


# --- as it looks


def test_everybody_can_use_every_tool_in_every_light(
    browser: Browser,
    service: Server,
    site: str,
    look: Look,
    tmp_path: Path,
    keep_picture: Callable[[Page, str], None],
) -> None:
    with Tab(browser, service.url, **look.options) as tab:
        tab.open("try")
        tab.say_key(KEY)

        def check(name: str) -> None:
            expect(tab.page.locator(".result:visible")).not_to_be_empty()  # the answer is here, but not shown yet
            tab.assert_accessible()
            tab.assert_fits()
            tab.page.evaluate("scrollTo(0, 0)")
            keep_picture(tab.page, f"try-{name}-{look.name}")

        tool(tab, "Embed")
        sent(tab, "Embed")
        check("embed")
        panel = tool(tab, "Caption")
        (tmp_path / "picture.png").write_bytes(saved(draw(PICTURE), "PNG"))
        panel.locator("input[type=file]").set_input_files(tmp_path / "picture.png")
        sent(tab, "Describe")
        check("caption")
        panel = tool(tab, "Crawl")
        panel.get_by_label("Address of the page").fill(site)
        panel.get_by_label("Screenshot").select_option("true")
        sent(tab, "Read")
        check("crawl")
