"""How much of the main content of pages is found: `python -m benchmarks.extraction FOLDER`.

FOLDER has `html/NAME.html.gz` and `ground-truth/NAME.json` with the page's `url`, its `ground_truth.main_content` and
its kind in `_internal.page_type.primary` (the form of the data set WCXB).
Ours stands beside trafilatura as it comes. F1 is over words: runs of word characters in lower case, each as often as it
occurs.
"""

import collections
import gzip
import json
import re
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import trafilatura

from benchmarks.table import Row
from homelab_ai.crawling.extraction.extract import extract

Words = collections.Counter[str]


@dataclass(frozen=True)
class Page:
    """One page of the folder."""

    name: str
    kind: str
    url: str
    html: bytes
    wanted: str


def pages_in(folder: Path) -> Iterator[Page]:
    """Yield the pages of a folder."""
    for file in sorted((folder / "ground-truth").glob("*.json")):
        facts = json.loads(file.read_text())
        kind = ((facts.get("_internal") or {}).get("page_type") or {}).get("primary", "article")
        html = gzip.decompress((folder / "html" / f"{file.stem}.html.gz").read_bytes())
        wanted = facts["ground_truth"]["main_content"] or ""
        yield Page(file.stem, "collection" if kind == "category" else kind, facts["url"], html, wanted)


def words_of(text: str) -> Words:
    """Count the words of a text."""
    return collections.Counter(re.findall(r"\w+", text.lower()))


def f1_of(found: Words, wanted: Words) -> float:
    """Return how well they agree, 0 to 1."""
    both = found.total() + wanted.total()
    return 2 * (found & wanted).total() / both if both else 1.0


def by_kind(kinds: Sequence[str], scores: Mapping[str, Sequence[float]]) -> Iterator[str]:
    """Yield the lines of a table: the means of each way for each kind of page, and for all."""
    yield f"{'F1':<16}{'pages':>6}" + "".join(f"{way:>13}" for way in scores)
    for kind in (*sorted(set(kinds)), "all"):
        own = [number for number, other in enumerate(kinds) if kind in {other, "all"}]
        figures = "".join(f"{statistics.mean(way[number] for number in own):13.4f}" for way in scores.values())
        yield f"{kind:<16}{len(own):>6}{figures}"


@dataclass(frozen=True)
class Scored:
    """What each way has made of the pages of a folder, page by page."""

    kinds: list[str]
    scores: dict[str, list[float]]
    seconds: dict[str, list[float]]


def scored(folder: Path) -> Scored:
    """Read all pages, by ours and by trafilatura in turns."""
    ways: dict[str, Callable[[Page], str]] = {
        "ours": lambda page: extract(page.html, page.url, "text/html").text,
        "trafilatura": lambda page: trafilatura.extract(page.html, url=page.url) or "",
    }
    found = Scored([], {way: [] for way in ways}, {way: [] for way in ways})
    for page in pages_in(folder):
        wanted = words_of(page.wanted)
        found.kinds.append(page.kind)
        for way, extracted in ways.items():
            started = time.perf_counter()
            text = extracted(page)
            found.seconds[way].append(time.perf_counter() - started)
            found.scores[way].append(f1_of(words_of(text), wanted))
    return found


def measure(folder: Path) -> list[Row]:
    """Return the rows of `make bench`: how well the pages are read, and how fast."""
    found = scored(folder)
    ours, theirs = (statistics.mean(found.scores[way]) for way in ("ours", "trafilatura"))
    mine, other = (1000 * statistics.median(found.seconds[way]) for way in ("ours", "trafilatura"))
    return [
        Row("main content of pages, F1", f"{ours:.3f}", f"trafilatura {theirs:.3f}", f"{ours / theirs:.2f}"),
        Row("the text of a page", f"{mine:.0f} ms", f"trafilatura {other:.0f} ms", f"{mine / other:.2f}"),
    ]


def main() -> None:
    """Score, and print a line for each kind of page."""
    found = scored(Path(sys.argv[1]))
    for line in by_kind(found.kinds, found.scores):
        print(line)
    for label, part in (("ms, median", 0.5), ("ms, 95 of 100", 0.95)):
        seconds = (sorted(way)[int(part * len(found.kinds))] for way in found.seconds.values())
        print(f"{label:<22}" + "".join(f"{1000 * each:13.1f}" for each in seconds))


if __name__ == "__main__":
    main()
