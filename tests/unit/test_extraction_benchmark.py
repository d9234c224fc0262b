"""The benchmark of extraction, on a folder of two pages."""

import gzip
import json
import subprocess
import sys
from pathlib import Path

SENTENCE = "The old mill by the river grinds no corn any more, but on Sundays it sells bread, cake and cold cider. "


def test_it_scores_a_folder(tmp_path: Path) -> None:
    for folder in ("html", "ground-truth"):
        (tmp_path / folder).mkdir()
    for name, kind in (("one", "article"), ("two", "category")):
        html = f"<body><article><h1>The mill</h1><p>{SENTENCE * 3}</p></article></body>"
        (tmp_path / "html" / f"{name}.html.gz").write_bytes(gzip.compress(html.encode()))
        facts = {
            "url": "https://example.org/",
            "ground_truth": {"main_content": f"The mill\n{SENTENCE * 3}"},
            "_internal": {"page_type": {"primary": kind}},
        }
        (tmp_path / "ground-truth" / f"{name}.json").write_text(json.dumps(facts))
    command = [sys.executable, "-m", "benchmarks.extraction", str(tmp_path)]
    shown = subprocess.run(command, cwd=Path(__file__).parents[2], check=True, capture_output=True, text=True).stdout
    lines = [line.split() for line in shown.splitlines()]
    assert lines[0] == ["F1", "pages", "ours", "trafilatura"]
    assert lines[1][:3] == ["article", "1", "1.0000"]
    assert lines[2][:3] == ["collection", "1", "1.0000"]
    assert lines[3][:3] == ["all", "2", "1.0000"]
