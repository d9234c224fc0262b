"""Every code block of the documentation is proven: it is done, read, or held to the code.

A block of a kind that is not known here fails, and so does one for a shell that is neither done nor listed.
"""

import importlib.util
import json
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
import yaml

from homelab_ai.api.documents import ErrorEnvelope
from homelab_ai.api.keys import new_key
from homelab_ai.api.timing import server_timing
from homelab_ai.crawling.engines import chromium
from homelab_ai.models.timing import Timing
from homelab_ai.settings import Settings
from support import command_lines
from support.documents import Block, document, documents
from support.likeness import but_for_figures, differences, parsed, printed_alike, with_the_same_head
from support.rehearsal import Rehearsal, rehearsal
from support.server import REPOSITORY
from unit.test_errors import EVERY

pytestmark = pytest.mark.timeout(240)  # of which the models' exports are most, where no test has made them before

BLOCKS = [block for each in documents() for block in each.blocks]
BEFORE = dict(zip(BLOCKS[1:], BLOCKS[:-1], strict=True))
"""The block before each, whatever document that is in."""

Table = dict[tuple[str, str], str]

NOT_DONE: Table = {
    ("README.md", "docker build -t homelab-ai-api ."): "Docker, and ten minutes: tests/container does it",
    ("README.md", "make run"): "sets this machine up",
    ("README.md", ".venv/bin/homelab-ai serve --host 0.0.0.0"): "listens to the network",
    ("README.md", "make test"): "is what runs this",
    ("docs/contributing.md", "uv venv && source"): "sets an environment up",
    ("docs/crawling.md", ".venv/bin/homelab-ai doctor --egress"): "tests/e2e/test_doctor.py, in a network of its own",
    ("docs/crawling.md", "docker run --user 1000"): "Docker",
    ("docs/deployment.md", "docker build -t homelab-ai-api ."): "Docker: tests/container does it",
    ("docs/deployment.md", "docker run -d --name ai"): "Docker: tests/container does it",
    ("docs/deployment.md", "docker build -t homelab-ai-api --build-arg"): "Docker, and a GPU",
    ("docs/deployment.md", "cosign verify"): "a release that is published",
    ("docs/deployment.md", "docker buildx imagetools"): "a release that is published",
    ("docs/deployment.md", "gh release download"): "a release that is published",
    ("docs/deployment.md", "docker exec"): "Docker",
    ("docs/deployment.md", "docker cp"): "Docker",
    ("docs/deployment.md", "docker stop ai"): "Docker",
    ("docs/deployment.md", "kubectl apply -k deploy/kubernetes"): "Kubernetes",
    ("docs/deployment.md", "sudo make -C /opt/homelab-ai demo"): "root, and systemd",
    ("docs/logging.md", "homelab-ai serve >> /var/log/homelab-ai"): "root",
    ("docs/releasing.md", ""): "publishes: docs/test_releasing.py does what can be undone",
    (
        "docs/troubleshooting.md",
        ".venv/bin/homelab-ai doctor",
    ): "its exit status is the machine's: tests/e2e/test_doctor.py",
}
"""Blocks for a shell that no test can do, by their document and how they begin, and why. They are held to the code."""

PROVEN_ELSEWHERE: Table = {
    ("docs/deployment.md", "# api_keys.yaml"): "docs/test_deployment.py::test_the_keys_that_it_shows_can_be_used",
    (
        "docs/logging.md",
        "^(?P<timestamp>",
    ): "e2e/test_logs.py::test_each_request_has_one_line_that_the_expression_reads",
    ("docs/monitoring.md", "# Homepage"): "docs/test_monitoring.py::test_widgets_ask_for_fields_that_there_are",
    ("docs/monitoring.md", "# Glance"): "docs/test_monitoring.py::test_widgets_ask_for_fields_that_there_are",
    ("docs/monitoring.md", "# prometheus.yaml"): (
        "docs/test_monitoring.py::test_the_configuration_shown_is_the_one_that_is_there"
    ),
}
"""Blocks that only one test understands."""


def of(language: str, *, but: Table = PROVEN_ELSEWHERE) -> pytest.MarkDecorator:
    """All blocks of a language but those that a table lists, one by one."""
    chosen = [block for block in BLOCKS if block.language == language and not listed(block, but)]
    return pytest.mark.parametrize("block", chosen, ids=map(str, chosen))


def listed(block: Block, table: Table) -> tuple[str, str] | None:
    """Its entry in one of the tables, which is the longest that fits."""
    found = [key for key in table if key[0] == block.document and block.text.startswith(key[1])]
    return max(found, key=lambda key: len(key[1]), default=None)


@pytest.fixture(scope="module")
def doing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rehearsal]:
    if not shutil.which("curl"):
        pytest.skip("curl is not installed")
    with rehearsal(tmp_path_factory.mktemp("rehearsal")) as doing:
        yield doing


@pytest.fixture(scope="module")
def rehearsed(doing: Rehearsal) -> Callable[[Block], str]:
    """What a block prints, where all blocks of its document are done that can be."""
    do_all = cache(lambda name, language: _all_done(doing, name, language))
    return lambda block: do_all(block.document, block.language)[block]


def _all_done(doing: Rehearsal, name: str, language: str) -> dict[Block, str]:
    blocks = [block for block in document(name).blocks if block.language == language and not listed(block, NOT_DONE)]
    outputs = (doing.in_python if language == "python" else doing.in_shell)(blocks)
    return dict(zip(blocks, outputs, strict=True))


def shown_after(block: Block, language: str) -> Block | None:
    """The block that shows what this one prints, if there is one."""
    return next((each for each in BLOCKS if each.language == language and follows(each) == block), None)


def follows(block: Block) -> Block | None:
    """The block that is done and whose output this one shows, if it does."""
    before = BEFORE.get(block)
    if not before or (before.document, before.section) != (block.document, block.section):
        return None
    return before if before.language in {"bash", "python"} and not listed(before, NOT_DONE) else None


# --- the tables


@pytest.mark.parametrize("block", BLOCKS, ids=str)
def test_there_is_a_rule_for_it(block: Block) -> None:
    assert block.language in {"bash", "console", "http", "json", "python", "regex", "text", "yaml"}
    if block.language == "regex":
        assert listed(block, PROVEN_ELSEWHERE)


@pytest.mark.parametrize("table", [NOT_DONE, PROVEN_ELSEWHERE], ids=["not done", "proven elsewhere"])
def test_the_tables_name_what_there_is(table: Table) -> None:
    assert {listed(block, table) for block in BLOCKS} - {None} == table.keys()


def test_what_is_proven_elsewhere_is() -> None:
    for place in PROVEN_ELSEWHERE.values():
        path, _, name = place.partition("::")
        assert f"\ndef {name}(" in (REPOSITORY / "tests" / path).read_text()


# --- shells


@of("bash")
def test_a_shell_understands_it_and_all_names_in_it_are_those_of_the_code(block: Block) -> None:
    read = subprocess.run(["bash", "-n"], input=block.text, capture_output=True, text=True, check=False)
    assert (read.returncode, read.stderr) == (0, "")
    for arguments in command_lines.of_ours(block.text):
        command_lines.check(arguments)
    _check_names(block.text)


def _check_names(text: str) -> None:
    port = str(Settings().server.port)
    files = {name: (REPOSITORY / name).read_text() for name in ("Makefile", "Dockerfile")}
    for target in re.findall(r"\bmake (?:-C \S+ )?([a-z0-9]+)", text):
        assert re.search(rf"^{target}:", files["Makefile"], re.MULTILINE), f"there is no `make {target}`"
    for argument in re.findall(r"--build-arg (\w+)=", text):
        assert re.search(rf"^ARG {argument}\b", files["Dockerfile"], re.MULTILINE), f"there is no {argument}"
    for path in re.findall(r"(?<![\w./-])(?:/opt/homelab-ai/)?((?:deploy|scripts|tests|benchmarks)/[\w./-]*\w)", text):
        assert (REPOSITORY / path).exists(), f"there is no {path}"
    for path in re.findall(r":(/app/\w+)", text):
        assert f'"{path}"' in files["Dockerfile"], f"{path} is no volume"
    for given in re.findall(r"(?:127\.0\.0\.1:|-p \d+:)(\d+)", text):
        assert given == port
    for key in re.findall(r"\b(\w+)\.\.\.", text):
        assert new_key().startswith(key)


@of("bash", but=NOT_DONE)
def test_it_can_be_done(block: Block, rehearsed: Callable[[Block], str]) -> None:
    last = rehearsed(block).strip().rpartition("\n")[2]
    if shown := shown_after(block, "text"):
        assert printed_alike(shown.text, rehearsed(block))
    assert shown_after(block, "json") or not last.startswith('{"error"'), last


@of("console")
def test_the_command_takes_what_is_typed(block: Block) -> None:
    typed = [line[2:] for line in block.text.splitlines() if line.startswith("$ ")]
    assert typed
    for arguments in command_lines.of_ours("\n".join(typed)):
        command_lines.check(arguments)


TYPED: dict[str, Callable[[str, str], bool]] = {
    "homelab-ai add text_embedding mine": printed_alike,
    "homelab-ai load mine": but_for_figures,
    "homelab-ai ls": with_the_same_head,
    "homelab-ai ps": with_the_same_head,
    "homelab-ai change nomic-embed-text": printed_alike,
    "homelab-ai unload mine": but_for_figures,
    "homelab-ai rm mine": lambda shown, real: shown.splitlines()[-1] == real.strip(),  # nobody is asked in a pipe
    "homelab-ai key ls": with_the_same_head,
    "homelab-ai embed --similar": printed_alike,
    "homelab-ai config check": printed_alike,
}
"""How what is typed begins, in an order in which it can be done, and how alike what is shown has to be."""


def test_the_command_prints_what_is_shown(doing: Rehearsal) -> None:
    parts = [
        (block, *part.partition("\n")[::2])
        for block in BLOCKS
        if block.language == "console"
        for part in re.split(r"^\$ ", block.text, flags=re.MULTILINE)[1:]
    ]
    for begins, alike in TYPED.items():
        block, typed, shown = next(part for part in parts if part[1].startswith(begins))
        (printed,) = doing.in_shell([replace(block, text=f"{typed} 2>&1 || true")])
        assert alike(shown, printed), f"{block}: {typed}\n{printed}"


def test_the_command_takes_what_stands_in_the_text() -> None:
    found = [
        arguments
        for each in documents()
        for code in each.code
        for arguments in command_lines.of_ours(code)
        if arguments
    ]
    assert len(found) > 10
    for arguments in found:
        command_lines.check(arguments)


def test_every_module_that_is_run_is_there() -> None:
    named = {
        name
        for each in documents()
        for name in re.findall(r"python -m ((?:benchmarks|demo|homelab_ai)[.\w]*)", each.text)
    }
    assert len(named) > 5
    assert [name for name in named if not importlib.util.find_spec(name)] == []


# --- what is shown of answers


@of("python")
def test_it_runs_and_prints_what_is_shown(block: Block, rehearsed: Callable[[Block], str]) -> None:
    shown, printed = shown_after(block, "text"), rehearsed(block)
    assert printed_alike(shown.text if shown else "", printed), printed


@of("json")
def test_it_is_what_comes(block: Block, rehearsed: Callable[[Block], str]) -> None:
    shown = parsed(block.text)
    if request := follows(block):
        real = json.loads(rehearsed(request).strip().rpartition("\n")[2])
        assert not differences(shown, real)
        return
    error = ErrorEnvelope.model_validate(shown).error  # all else that is shown without a request
    (kind,) = (kind for kind in EVERY if kind.code == error.code)
    assert error.details.keys() == kind.example_details.keys()


@of("text")
def test_it_is_of_the_kind_that_it_stands_for(block: Block) -> None:
    if not follows(block):
        (proof,) = (proof for (name, begins), proof in TEXTS.items() if _is(block, name, begins))
        proof(block)


def _is(block: Block, name: str, begins: str) -> bool:
    return block.document == name and block.text.lstrip().startswith(begins)


def _drawing(block: Block) -> None:
    code = "".join(path.read_text() for path in (REPOSITORY / "src").rglob("*.py"))
    for name in re.findall(r"\b(?:[A-Z][a-z]+){2,}\b", block.text):
        assert re.search(rf"^class {name}\b", code, re.MULTILINE), f"there is no {name}"
    for path in re.findall(r"\b(\w+/\w+)\b", block.text):
        assert (REPOSITORY / "src/homelab_ai/models" / f"{path}.py").exists(), f"there is no {path}"


def _access_log(block: Block) -> None:
    (expression,) = (each.text.strip() for each in document(block.document).blocks if each.language == "regex")
    head, *lines = block.text.splitlines()
    assert head.split(" | ") == [*re.compile(expression).groupindex]
    assert lines
    assert all(re.fullmatch(expression, line) for line in lines)


def _application_log(block: Block) -> None:
    for line in block.text.splitlines():
        found = re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z (INFO|WARNING) ([\w.]+) \[\S+\] (.+)", line)
        assert found
        spec = importlib.util.find_spec(found[2])
        assert spec
        assert spec.origin
        code = Path(spec.origin).read_text()
        assert all(word in code for word in re.findall(r"\b[a-z]{2,}\b", found[3]) if word != "minilm")


def _logrotate(block: Block) -> None:
    before = BEFORE[block]
    assert block.text.partition("*")[0] in before.text


def _apparmor(block: Block) -> None:
    folder = re.search(r"(/\S+)/chromium\{,-headless-shell\} ", block.text)
    assert folder
    assert folder[1] == str(chromium._DEBIAN)
    assert f"{chromium._WHOLE}-headless-shell" == chromium._SHELL


TEXTS: dict[tuple[str, str], Callable[[Block], None]] = {
    ("docs/architecture.md", "┌──"): _drawing,
    ("docs/logging.md", "timestamp | request_id"): _access_log,
    ("docs/logging.md", "2026-03-01T08:30:00.123Z INFO"): _application_log,
    ("docs/logging.md", "/var/log/homelab-ai/*.log"): _logrotate,
    ("docs/troubleshooting.md", "# /etc/apparmor.d"): _apparmor,
}
"""Texts that are no output of a block, and what proves them."""


@of("http")
def test_the_header_is_written_so(block: Block) -> None:
    name, _, value = block.text.strip().partition(": ")
    timing = Timing()
    for part, milliseconds in re.findall(r"(\w+);dur=([\d.]+)", value):
        timing.add(part, float(milliseconds) / 1000)
        assert f"| `{part}` |" in document(block.document).text
    assert server_timing(timing) == {name: value}


@of("yaml")
def test_the_settings_can_be_used(block: Block) -> None:
    Settings.model_validate(yaml.safe_load(block.text))
