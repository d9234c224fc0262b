"""`homelab-ai add`, `change`, `rm`, `ls`, `ps`, `load`, `unload`: a real service, and what a shell completes of it."""

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from homelab_ai.cli import cli
from support.server import Server, free_port
from support.terminal import Terminal

BOSS = "the-key-of-the-boss"
READER = "the-key-of-a-reader"
SHAPES = Path(__file__).parents[1] / "models" / "blip-shapes"
LONG = "a-model-with-a-very-long-name-of-sixty-four-characters-0123456789"[:64]
CONFIG = f"""
resources: {{local_model_roots: [{SHAPES.parent}]}}
security:
  api_keys:
    - {{name: boss, key_hash: {hashlib.sha256(BOSS.encode()).hexdigest()}, scopes: [admin, read, embed]}}
    - {{name: reader, key_hash: {hashlib.sha256(READER.encode()).hexdigest()}, scopes: [read]}}
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with Server(tmp_path_factory.mktemp("service"), config=CONFIG, environment={}) as server:
        yield server


def run(server: Server | None, *arguments: str, as_: str = BOSS) -> Result:
    url = server.url if server else f"http://127.0.0.1:{free_port()}"
    environment = {"HOMELAB_AI_API_KEY": as_, "HOMELAB_AI_URL": url, "COLUMNS": "40"}
    return CliRunner().invoke(cli, arguments, env=environment)


def told(server: Server, *arguments: str) -> str:
    """What a command prints that does what it is to."""
    done = run(server, *arguments)
    assert (done.exit_code, done.stderr) == (0, "")
    return done.stdout


def listed(server: Server, command: str = "ls") -> dict[str, list[str]]:
    """The lines of a table as a script reads them, by the first word."""
    return {line.split()[0]: line.split() for line in told(server, command).splitlines()}


@pytest.mark.timeout(120)
def test_a_model_is_loaded_looked_at_and_unloaded(server: Server) -> None:
    assert listed(server)["minilm"][2:5] == ["available", "-", "default"]
    assert told(server, "ps").startswith("memory: 0 MB of ")

    done = told(server, "load", "minilm")
    assert done.startswith("minilm is loaded after ")
    assert done.endswith(" MB, openvino on cpu\n")
    assert told(server, "load", "minilm") == "minilm is loaded already\n"
    assert json.loads(told(server, "load", "minilm", "--json"))["state"] == "ready"

    assert listed(server)["minilm"][2] == "ready"
    assert listed(server, "ps")["minilm"][1] == "ready"
    assert "30 min" in told(server, "ps")
    shown = json.loads(told(server, "ps", "--json"))
    assert [model["id"] for model in shown["models"]] == ["minilm"]
    assert 0 < shown["memory"]["used_bytes"] < shown["memory"]["budget_bytes"]
    assert not shown["browser"]["running"]

    assert "MB free again" in told(server, "unload", "minilm")
    assert told(server, "unload", "minilm") == "minilm is not loaded\n"
    assert json.loads(told(server, "unload", "minilm", "--json"))["state"] == "available"
    assert "minilm" not in listed(server, "ps")


def test_a_model_is_added_changed_and_removed(server: Server) -> None:
    options = ("--default", "--alias", "seen/by:others", "--keep-alive", "5", "--device", "cpu", "--backend", "torch")
    made = told(server, "add", "image_caption", "shapes", str(SHAPES), *options)
    assert made == "shapes is on offer; its first request loads it, and so does: homelab-ai load shapes\n"
    assert listed(server)["shapes"] == ["shapes", "image_caption", "available", "-", "default", "-", "blip-shapes"]
    assert listed(server)["blip-base"][4] == "-", "another is the default now"

    told_ = told(server, "change", "seen/by:others", "--keep-alive", "-1")
    assert told_ == "shapes is enabled, the default for image_caption, stays loaded\n"
    assert "unloaded after 2 min without" in told(server, "change", "shapes", "--keep-alive", "2")
    assert told(server, "change", "shapes", "--disable").startswith("shapes is disabled")
    assert listed(server)["shapes"][2] == "disabled"
    assert json.loads(told(server, "change", "shapes", "--enable", "--json"))["enabled"]
    assert json.loads(told(server, "change", "blip-base", "--default", "--json"))["default"]

    assert told(server, "rm", "shapes") == "shapes is removed\n"
    assert "shapes" not in listed(server)
    text = ("--dimensions", "384", "--max-length", "64", "--precision", "float32", "--revision", "v1")
    added = json.loads(told(server, "add", "text_embedding", "mine", "org/name", *text, "--json"))
    assert (added["dimensions"], added["max_length"], added["revision"]) == (384, 64, "v1")
    assert json.loads(told(server, "rm", "mine", "--json", "--purge", "--yes")) == {"id": "mine", "purged_bytes": 0}


def test_what_stands_in_the_way_is_said_and_has_a_status_of_its_own(server: Server) -> None:
    for arguments, status, said in (
        (("load", "minlm"), 3, "No model is called 'minlm'; did you mean minilm?"),
        (("unload", "other"), 3, "No model is called 'other'; there are blip-base, "),
        (("change", "[/x]", "--enable"), 3, "No model is called '[/x]'"),
        (("rm", "all-MiniLM-L6-v2"), 3, "what is called so is 'minilm'"),
        (("load", "mpnet"), 4, "or with `homelab-ai change mpnet --enable`"),
        (("add", "text_embedding", "minilm", "org/name"), 4, "a model is called 'minilm' already"),
        (("add", "text_embedding", "a b", "org/name"), 2, "id: expected at most 64 letters"),
        (("add", "image_caption", "x", "org/name", "--dimensions", "3"), 2, "dimensions: is not a setting"),
        (("add", "text", "x", "org/name"), 2, "text_embedding"),
        (("change", "minilm"), 2, "Say what to change"),
        (("change", "minilm", "--keep-alive", "-3"), 2, "keep_alive_minutes"),
        (("lss",), 2, "Did you mean"),
    ):
        done = run(server, *arguments)
        assert (done.exit_code, done.stdout) == (status, ""), arguments
        assert said in done.stderr


def test_without_a_service_or_the_right_each_says_so(server: Server) -> None:
    commands = (("ls",), ("ps",), ("load", "minilm"), ("unload", "minilm"), ("rm", "minilm"), ("pull", "minilm"))
    for arguments in (*commands, ("add", "text_embedding", "a", "b/c"), ("change", "minilm", "--enable")):
        done = run(None, *arguments)
        assert (done.exit_code, done.stdout) == (1, "")
        assert done.stderr.startswith("No service answers at http://127.0.0.1:")
        done = run(server, *arguments, as_="")
        assert (done.exit_code, "Set HOMELAB_AI_API_KEY" in done.stderr) == (1, True)
        done = run(server, *arguments, as_=READER)
        assert (done.exit_code, "admin" in done.stderr) == ((0, False) if len(arguments) == 1 else (1, True))


def test_nothing_is_cut_in_a_pipe_and_on_a_narrow_terminal(server: Server) -> None:
    told(server, "add", "text_embedding", LONG, "organisation-with-a-name/and-its-model-of-many-letters")
    try:
        in_pipe = told(server, "ls")
        assert "\x1b" not in in_pipe
        (line,) = (line for line in in_pipe.splitlines() if LONG in line)
        assert line.endswith("organisation-with-a-name/and-its-model-of-many-letters")
        at = {"HOMELAB_AI_API_KEY": BOSS, "HOMELAB_AI_URL": server.url}
        with Terminal("ls", environment=at, columns=60) as terminal:
            assert terminal.ended() == 0
        folded = [line.split() for line in terminal.seen.splitlines() if line.strip()]
        assert "…" not in terminal.seen
        assert LONG in "".join(cells[0] for cells in folded)
    finally:
        told(server, "rm", LONG)


def test_a_person_is_asked_before_a_model_is_removed(server: Server) -> None:
    told(server, "add", "text_embedding", "doomed", "org/name")
    at = {"HOMELAB_AI_API_KEY": BOSS, "HOMELAB_AI_URL": server.url}
    for answer, status in (("n\n", 1), ("\x03", 1)):
        with Terminal("rm", "doomed", environment=at) as terminal:
            terminal.wait_for("Remove doomed (org/name, available), but leave its files? [y/N]")
            terminal.type(answer)
            assert terminal.ended() == status
        assert "doomed" in listed(server)
    with Terminal("rm", "doomed", "--purge", environment=at) as terminal:
        terminal.wait_for("and what was downloaded of it?")
        terminal.type("y\n")
        assert terminal.ended() == 0
    assert "doomed is removed, and 0.0 MB of its files" in terminal.seen
    assert "doomed" not in listed(server)


@pytest.mark.timeout(120)
def test_a_person_sees_that_a_model_is_being_loaded(server: Server) -> None:
    at = {"HOMELAB_AI_API_KEY": BOSS, "HOMELAB_AI_URL": server.url}
    with Terminal("load", "minilm", environment=at) as terminal:
        terminal.wait_for("loading minilm ...")
        assert terminal.ended() == 0
    assert "minilm is loaded after" in terminal.seen
    told(server, "unload", "minilm")


def completed(words: str, **environment: str) -> list[str]:
    """What bash offers where the words end."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("HOMELAB_AI")}
    bash = {"_HOMELAB_AI_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": f"{len(words.split(' ')) - 1}"}
    done = subprocess.run(
        [sys.executable, "-c", "import sys; sys.argv[0] = 'homelab-ai'; from homelab_ai.cli import main; main()"],
        env=inherited | bash | environment,
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
    )
    assert done.stderr == ""
    return done.stdout.split()


def test_a_shell_completes_commands_and_the_models_of_the_service(server: Server) -> None:
    assert {"load", "ls"} <= {*completed("homelab-ai l")}
    at = {"HOMELAB_AI_API_KEY": READER, "HOMELAB_AI_URL": server.url}
    for command in ("load", "unload", "pull", "rm", "change"):
        assert completed(f"homelab-ai {command} mi", **at) == ["minilm"]
    assert completed(f"homelab-ai load --url {server.url} mi", HOMELAB_AI_API_KEY=READER) == ["minilm"]


def test_a_shell_is_not_disturbed_where_no_service_tells(server: Server) -> None:
    nobody = f"http://127.0.0.1:{free_port()}"
    for url, key in ((nobody, BOSS), (server.url, "wrong"), (server.url, "no key"), ("nonsense", BOSS)):
        assert completed("homelab-ai load ", HOMELAB_AI_URL=url, HOMELAB_AI_API_KEY=key) == []
