"""What the views are made of and can be told by itself: quoting, Markdown, similarity, the tail of a log."""

import json
import subprocess
import sys
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from playwright.sync_api import expect

from support.tab import Tab

pytestmark = pytest.mark.timeout(120)

RENDER = """async ([markdown]) => {
  const { rendered } = await import(new URL("js/parts/markdown.js", document.baseURI));
  const box = document.createElement("div");
  box.append(...rendered(markdown));
  const tags = [...box.querySelectorAll("*")].map((each) => each.localName);
  return { html: box.innerHTML, text: box.textContent, tags,
    links: [...box.querySelectorAll("a")].map((each) => each.href) };
}"""


def call(tab: Tab, module: str, expression: str, *given: Any) -> Any:
    """The value of an expression of what that module exports, which is `its`, and of what is `given`."""
    source = f"""async (given) => {{
      const its = await import(new URL("js/{module}.js", document.baseURI));
      return {expression};
    }}"""
    return tab.page.evaluate(source, list(given))


@pytest.fixture
def opened(tab: Tab) -> Tab:
    return tab.open("try")


# --- quoting

ANY_TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(-1e6, 1e6) | ANY_TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(ANY_TEXT, inner, max_size=4),
    max_leaves=10,
)
FEW = settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@given(words=st.lists(ANY_TEXT, min_size=1, max_size=20))
@FEW
@pytest.mark.parametrize("shell", ["bash", "sh"])
def test_a_shell_reads_every_word_as_it_was(opened: Tab, shell: str, words: list[str]) -> None:
    quoted = call(opened, "parts/snippets", "given.map(its.shellQuoted)", *words)
    command = f"printf '%s\\0' {' '.join(quoted)}"
    done = subprocess.run([shell, "-c", command], capture_output=True, check=True, timeout=20)
    assert done.stdout.decode().split("\0")[:-1] == words


@given(value=JSON)
@FEW
def test_python_and_json_read_every_value_as_it_was(opened: Tab, value: Any) -> None:
    request = {"url": "http://127.0.0.1/api/embed", "json": value}
    both = "[its.literal(given[0].json), its.python(given[0], true)]"
    line, program = call(opened, "parts/snippets", both, request)
    assert json.loads(line) == value
    body = next(line for line in program.split("\n") if line.startswith("body = "))
    scope: dict[str, Any] = {}
    exec(body, scope)  # the line that a person would run
    assert scope["body"] == value


def test_a_text_that_begins_as_a_file_name_does_is_sent_as_a_text(opened: Tab) -> None:
    request = {
        "url": "http://127.0.0.1/api/caption",
        "form": [["image", "https://example.com/cat.jpg"], ["prompt", "@/etc/passwd"]],
    }
    assert "--form-string 'prompt=@/etc/passwd'" in call(opened, "parts/snippets", "its.curl(given[0], false)", request)


# --- Markdown

WRITTEN = """# The house book

It is **bold**, *slanted*, `code`, a [link](https://example.com/a_b) and ![a cat](https://example.com/cat.png).
It ends here.

- one
- two
   1. two and a half
      with more
- three

| Room | Degrees |
| --- | --- |
| Kitchen \\| hall | 21 |

> quoted
> > and quoted again

```python
print("**not bold**")
# not a heading
```

[![logo](https://example.com/logo.png)](https://example.com/) and a footnote [[1]](https://example.com/#1)."""


def test_what_the_service_writes_is_shown_as_it_is_meant(opened: Tab) -> None:
    shown = opened.page.evaluate(RENDER, [WRITTEN])
    html = shown["html"]
    for part in (
        "<h3>The house book</h3>",
        "<strong>bold</strong>",
        "<em>slanted</em>",
        "<code>code</code>",
        '<a href="https://example.com/a_b" target="_blank" rel="noopener noreferrer">link</a>',
        '<span class="picture">[picture: a cat]</span>',
        "<li>two<ol><li>two and a half<p>with more</p></li></ol></li>",
        '<th scope="col">Degrees</th>',
        "<td>Kitchen | hall</td>",
        "<blockquote><p>quoted</p><blockquote><p>and quoted again</p></blockquote></blockquote>",
        'print("**not bold**")\n# not a heading</code></pre>',
        'rel="noopener noreferrer"><span class="picture">[picture: logo]</span></a>',
        ">[1]</a>",
    ):
        assert part in html, html
    assert "img" not in shown["tags"]


HOSTILE = [
    "<script>alert(1)</script><img src=x onerror=alert(1)>",
    "[press](javascript:alert(1)) [press](JAVASCRIPT:alert(1)) [press](data:text/html,<script>alert(1)</script>)",
    "[press](vbscript:x) [press](//example.com) [press](file:///etc/passwd) [press](\tjavascript:alert(1))",
    '[press](https://example.com/"onclick="alert(1))',
    "![x](javascript:alert(1)) [<b>x</b>](https://example.com/<script>)",
    "# <iframe src=https://example.com>",
    "| <svg onload=alert(1)> |\n| --- |\n| [x](javascript:alert(1)) |",
    "```<script>\n</code></pre><script>alert(1)</script>\n```",
]


@pytest.mark.parametrize("markdown", HOSTILE)
def test_a_strangers_markdown_is_text_or_a_link_to_the_web(opened: Tab, markdown: str) -> None:
    shown = opened.page.evaluate(RENDER, [markdown])
    allowed = {"p", "a", "h3", "br", "pre", "code", "span", "div", "table", "thead", "tbody", "tr", "th", "td"}
    assert set(shown["tags"]) <= allowed, shown["html"]
    assert all(link.startswith("https://example.com/") for link in shown["links"]), shown["links"]


@given(markdown=st.text(st.sampled_from("#*`[]()!|->_ \n1.a"), max_size=200))
@FEW
def test_whatever_is_written_is_shown(opened: Tab, markdown: str) -> None:
    shown = opened.page.evaluate(RENDER, [f"{markdown}\n\nthe end"])
    assert shown["text"].endswith("the end")


@pytest.mark.parametrize("start", ["", "[", "```"])
@pytest.mark.parametrize(
    "piece",
    ["[", "![", "![a](b) ", "**a*", "`", "> ", "- ", "   - x\n", "| a ", "[a](", "![[", "*a", "```\n", "#", " "],
)
def test_what_never_closes_does_not_hold_the_page_up(opened: Tab, start: str, piece: str) -> None:
    length = 19_000  # a line that is longer is shown as it is
    shown = opened.page.evaluate(RENDER, [f"{start}{piece * (length // len(piece))}x y"])
    assert len(shown["html"]) < 20 * length


def test_a_very_long_line_does_not_hold_the_page_up(opened: Tab) -> None:
    shown = opened.page.evaluate(RENDER, [f"```{' ' * 1_000_000}x y"])
    assert shown["text"].endswith("x y")


# --- figures


def test_durations_have_as_many_figures_as_can_be_told_apart(opened: Tab) -> None:
    seconds = [0.0001, 0.000999, 0.0034, 0.00999, 0.0123, 0.9996, 3.44, 9.96, 3700]
    assert call(opened, "format", "given.map(its.duration)", *seconds) == [
        *("0.10 ms", "1.0 ms", "3.4 ms", "10 ms", "12 ms"),
        *("1.0 s", "3.4 s", "10 s", "1 h 2 min"),
    ]
    assert call(opened, "parts/timing", "its.timingWords(given[0])", "queue;dur=0.1, odd;dur=12, total") == [
        "waited for its turn 0.10 ms",
        "odd 12 ms",
    ]
    assert call(opened, "format", "[0, 1, 1200].map((n) => its.counted(n, 'link'))") == [
        *("0 links", "1 link", "1,200 links"),
    ]


# --- similarity


def test_cosines_and_who_is_most_alike(opened: Tab) -> None:
    rows = call(opened, "parts/similarity", "its.similarities(given[0])", [[1, 0], [0, 2], [3, 3], [0, 0], [-1, 0]])
    assert rows[0] == pytest.approx([1, 0, 2**-0.5, 0, -1])
    assert rows[3] == [0, 0, 0, 0, 0], "what has no direction is like nothing"
    best = call(opened, "parts/similarity", "its.mostAlike(given[0])", rows)
    assert (best["one"], best["other"]) == (0, 2)
    assert call(opened, "parts/similarity", "its.mostAlike(given[0])", [[1]]) is None
    assert [call(opened, "parts/heatmap", "its.heatStep(given[0])", each) for each in (-1, 0, 0.26, 1, 1.0001)] == [
        0,
        0,
        3,
        10,
        10,
    ]


# --- the tail of the log

TAIL = """async ([given]) => {
  const { LogTail, matcher } = await import(new URL("js/views/logs/tail.js", document.baseURI));
  const tail = new LogTail(3);
  const line = (number, more) => ({ time: `t${number}`, level: "INFO", logger: "l", message: `m${number}`, ...more });
  const told = [];
  const take = (...lines) => {
    tail.take(lines);
    told.push(tail.entries.map((entry) => entry.message ?? entry.endpoint));
  };
  take(line(1), line(2));
  take(line(2), line(3), line(4));
  tail.clear();
  take(line(4), line(5));
  const request = { ...line(6), message: undefined, access: true, endpoint: "/api/embed", status: 503 };
  take(request, line(7, { level: "WARNING", message: "Nothing embeds" }));
  const fits = (words, level) => tail.entries.filter(matcher(words, level)).map((entry) => entry.time);
  return { told, broken: fits("", "broken"), words: fits("EMBED", "all"), without: fits("embed -api", "all"),
    warnings: fits("", "warnings"), number: fits("503", "all"), none: fits("embed nothing else", "all") };
}"""


def test_each_line_is_kept_once_up_to_the_most_and_found_by_words_and_kind(opened: Tab) -> None:
    told = opened.page.evaluate(TAIL, [None])
    assert told["told"][:3] == [["m1", "m2"], ["m2", "m3", "m4"], ["m5"]], (
        "a line that came before comes no second time"
    )
    assert told["told"][3] == ["m5", "/api/embed", "Nothing embeds"]
    assert told["broken"] == ["t6"]
    assert told["words"] == ["t6", "t7"]
    assert told["without"] == ["t7"]
    assert told["warnings"] == ["t7"]
    assert told["number"] == ["t6"]
    assert told["none"] == []


HISTORY = """async () => {
  const { History } = await import("./js/history.js");
  const on = {};
  const history = new History({ on: (name, listener) => { on[name] = listener; } });
  on.history({ step_seconds: 5, requests: [], errors: [], queue: [], memory_bytes: [] });
  for (const total of [7, 9]) {
    on.status({ requests: { total, failed: 0 }, queue: { depth: 1 }, memory: { used_bytes: 10 } });
  }
  const sum = (name) => history.series[name].reduce((one, other) => one + other, 0);
  return { requests: sum("requests"), errors: sum("errors"), queue: history.series.queue[0] };
}"""


def test_requests_count_from_the_first_second_of_the_service(opened: Tab) -> None:
    assert opened.page.evaluate(HISTORY) == {"requests": 2, "errors": 0, "queue": 1}


def test_the_copied_program_needs_nothing_but_python(opened: Tab) -> None:
    request = {"url": "http://127.0.0.1:1/api/embed", "json": {"texts": ["a"]}}
    program = call(opened, "parts/snippets", "its.python(given[0], false)", request)
    done = subprocess.run(
        [sys.executable, "-IS", "-c", program], capture_output=True, text=True, check=False, timeout=20
    )
    assert "Connection refused" in done.stderr, done.stderr
    expect(opened.page.locator("main")).to_be_visible()
