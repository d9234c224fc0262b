"""What is said of metrics is true: in the documentation, in the dashboard and in the alerts."""

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml
from pydantic import BaseModel
from starlette.testclient import TestClient

from homelab_ai.api import stream
from homelab_ai.api.status import StatusResponse
from support.documents import document, in_backticks
from support.exposition import LABELS
from support.server import REPOSITORY

MONITORING = (REPOSITORY / "docs" / "monitoring.md").read_text()
PROMETHEUS = REPOSITORY / "deploy" / "prometheus"
DASHBOARD: dict[str, Any] = json.loads((REPOSITORY / "deploy" / "grafana" / "homelab-ai.json").read_text())
RULES: list[dict[str, Any]] = yaml.safe_load((PROMETHEUS / "alerts.yaml").read_text())["groups"][0]["rules"]

HISTOGRAMS = {name for name in LABELS if name.endswith("_seconds") and "duration" in name} | {
    "model_queue_wait_seconds",
    "model_batch_items",
}
SERIES = {name: set(labels) for name, labels in LABELS.items() if name not in HISTOGRAMS} | {
    f"{name}_{part}": {*LABELS[name], *({"le"} if part == "bucket" else ())}
    for name in HISTOGRAMS
    for part in ("bucket", "sum", "count")
}
OF_PROMETHEUS = {"job", "instance"}
SERIES["up"] = set()


def expressions() -> Iterator[tuple[str, str]]:
    """Every expression, and where it stands."""
    for panel in DASHBOARD["panels"]:
        for target in panel.get("targets", []):
            yield panel["title"], target["expr"]
    for variable in DASHBOARD["templating"]["list"][1:]:
        expression = re.fullmatch(r"label_values\((.*), (job|instance)\)", variable["definition"])
        assert expression
        yield variable["name"], expression[1]
    for rule in RULES:
        yield rule["alert"], rule["expr"]


def test_every_metric_is_documented_with_its_labels() -> None:
    rows = re.findall(r"^\| `([a-z_]+)(?:\{([a-z, ]+)\})?` \| (counter|gauge|histogram) \|", MONITORING, re.MULTILINE)
    documented = {name: tuple(labels.split(", ")) if labels else () for name, labels, _ in rows}
    assert len(rows) == len(documented)
    assert documented == LABELS
    for name, _, kind in rows:
        assert (kind == "histogram") is (name in HISTOGRAMS)
        assert (kind == "counter") is name.endswith("_total")


@pytest.mark.parametrize(("where", "expression"), [*expressions()])
def test_dashboard_and_alerts_ask_for_what_there_is(where: str, expression: str) -> None:
    expression = re.sub(r"\[[^\]]*\]", "", expression)  # how far back
    grouping = re.findall(r"\b(?:by|on) \(([a-z_, ]+)\)", expression)
    expression = re.sub(r"\b(?:by|on) \([a-z_, ]+\)", "", expression)
    expression = re.sub(r"\b[a-z_]+(?=\s*\()", "", expression)  # functions
    selected = re.findall(r"([a-z][a-z0-9_]*)\{([^}]*)\}", expression)
    names = set(re.findall(r"\b[a-z][a-z0-9_]*", re.sub(r"\{[^}]*\}", "", expression))) - {"and", "or"}
    assert names
    assert names <= SERIES.keys()
    for name, selector in selected:
        for label, value in re.findall(r'([a-z_]+)\s*=~?\s*"([^"]*)"', selector):
            assert label in SERIES[name] | OF_PROMETHEUS, f"{name} has no label {label}"
            assert value in MONITORING or value.startswith("$") or value == "5.."
    labels = {label for group in grouping for label in group.split(", ")}
    assert labels <= set.union(OF_PROMETHEUS, *(SERIES[name] for name in names))


def test_the_dashboard_shows_everything_of_the_specification() -> None:
    shown = " ".join(expression for _, expression in expressions())
    for name in list(LABELS)[:7]:
        assert name in shown
    identifiers = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(identifiers) == len(set(identifiers))
    places = [panel["gridPos"] for panel in DASHBOARD["panels"]]
    assert all(place["x"] + place["w"] <= 24 for place in places)


def test_every_alert_is_documented_and_says_what_to_do() -> None:
    documented = re.findall(r"^\| `(HomelabAi[A-Za-z]+)` \|", MONITORING, re.MULTILINE)
    assert documented == [rule["alert"] for rule in RULES]
    tested = (PROMETHEUS / "alerts_test.yaml").read_text()
    for rule in RULES:
        assert rule["labels"]["severity"] in {"critical", "warning", "info"}
        assert rule["annotations"].keys() == {"summary", "description"}
        assert rule["alert"] in tested


def test_every_field_of_the_status_is_documented() -> None:
    rows = re.findall(r"^\| ((?:`[a-z_]+`(?:, )?)+) \|", MONITORING.partition("## Prometheus")[0], re.MULTILINE)
    assert {name for row in rows for name in re.findall(r"`([a-z_]+)`", row)} == StatusResponse.model_fields.keys()


def test_the_fields_within_them_are_documented_in_the_same_row() -> None:
    rows = {name: row for row in document("docs/monitoring.md").table("field", "what it says") for name in named(row)}
    for name, field in StatusResponse.model_fields.items():
        inner = [*get_args(field.annotation), field.annotation][0]
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            assert inner.model_fields.keys() <= {*in_backticks(rows[name]["what it says"])}, name


def named(row: dict[str, str]) -> list[str]:
    """The names in its first cell."""
    return in_backticks(next(iter(row.values())))


def test_every_event_of_the_stream_is_documented() -> None:
    documented = [
        name for row in document("docs/monitoring.md").table("event", "when", "what it holds") for name in named(row)
    ]
    assert documented == ["history", "status", "models", "log"]
    assert {*documented} == {*re.findall(r'_event\("(\w+)"', Path(stream.__file__).read_text())}


def test_every_part_of_server_timing_is_documented() -> None:
    code = "".join(path.read_text() for path in (REPOSITORY / "src" / "homelab_ai").rglob("*.py"))
    parts = {*re.findall(r'timing\.add\("(\w+)"', code)}
    parts |= {
        name for told in re.findall(r'"seconds": \{(.*?)\}', code, re.DOTALL) for name in re.findall(r'"(\w+)":', told)
    }
    rows = document("docs/monitoring.md").table("part", "what it is")
    assert {name for row in rows for name in named(row)} == parts


def test_widgets_ask_for_fields_that_there_are() -> None:
    homepage = next(block for block in re.findall(r"```yaml\n(.*?)```", MONITORING, re.DOTALL) if "Homepage" in block)
    (service,) = yaml.safe_load(homepage)
    example = StatusResponse.model_config["json_schema_extra"]
    assert isinstance(example, dict)
    paths = [mapping["field"] for mapping in service["AI"]["widget"]["mappings"]]
    paths += re.findall(r'\.JSON\.Int "([a-z_.]+)"', MONITORING)
    assert len(paths) >= 6
    for path in paths:
        value: Any = example["example"]
        for step in path.split("."):
            value = value[step]
        assert isinstance(value, int)


def test_the_configuration_shown_is_the_one_that_is_there() -> None:
    blocks = [yaml.safe_load(block) for block in re.findall(r"```yaml\n(.*?)```", MONITORING, re.DOTALL)]
    (shown,) = (block["scrape_configs"][0] for block in blocks if "scrape_configs" in block)
    (there,) = yaml.safe_load((PROMETHEUS / "prometheus.yaml").read_text())["scrape_configs"]
    assert shown.keys() == there.keys()
    assert shown["authorization"] == there["authorization"]
    assert shown["job_name"] == there["job_name"]


PROMTOOL = shutil.which("promtool") or shutil.which("promtool", path=f"{sys.prefix}/bin")
needs_promtool = pytest.mark.skipif(not PROMTOOL, reason="promtool is not installed (apt-get install prometheus)")


def promtool(*arguments: str | Path, given: str | None = None) -> None:
    assert PROMTOOL
    done = subprocess.run(
        [PROMTOOL, *arguments], cwd=PROMETHEUS, input=given, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


@needs_promtool
@pytest.mark.parametrize(
    "command",
    [
        ("check", "rules", "alerts.yaml"),
        ("test", "rules", "alerts_test.yaml"),
        ("check", "config", "--syntax-only", "prometheus.yaml"),
    ],
    ids=" ".join,
)
def test_promtool_finds_nothing_wrong(command: tuple[str, ...]) -> None:
    promtool(*command)


@needs_promtool
def test_promtool_can_read_the_dashboard(tmp_path: Path) -> None:
    asked = [re.sub(r"\$__rate_interval", "5m", expression) for _, expression in expressions()]
    rules = [{"record": f"asked:{number}", "expr": expression} for number, expression in enumerate(asked)]
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump({"groups": [{"name": "dashboard", "rules": rules}]}))
    promtool("check", "rules", tmp_path / "rules.yaml")


@needs_promtool
def test_promtool_finds_the_metrics_well_named(client: TestClient) -> None:
    assert client.post("/api/embed", json={"texts": ["a"]}).status_code == 200
    promtool("check", "metrics", given=client.get("/metrics").text)
