"""Commands that take their time: what they do when the service has none, goes away, or nobody waits any more."""

import json
import resource
import signal
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from homelab_ai.cli.asking import Asking
from support.commands import environment, run, typed
from support.scripted import DIMENSIONS, Said, refusal, scripted, vector_of, vectors
from support.server import free_port
from support.terminal import Terminal

TEXTS = [f"text number {number}" for number in range(3000)]
INPUT = "\n".join(TEXTS).encode()


@pytest.fixture
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Instead of each pause, its length is noted."""
    pauses: list[float] = []

    def note(asking: Asking, seconds: float) -> bool:
        pauses.append(seconds)
        return asking._over.is_set()

    monkeypatch.setattr(Asking, "_is_over_in", note)
    return pauses


def matrix(path: Path) -> "np.ndarray[tuple[int, ...], np.dtype[np.float32]]":
    return np.load(path)  # type: ignore[no-any-return]


def expected() -> "np.ndarray[tuple[int, ...], np.dtype[np.float32]]":
    return np.array([vector_of(text) for text in TEXTS], dtype=np.float32)


def test_answers_that_overtake_others_change_no_order_and_others_go_first(tmp_path: Path) -> None:
    second = threading.Event()

    def say(number: int, texts: list[str]) -> Said:
        if texts[0] == TEXTS[0]:
            assert second.wait(20), "only one request is under way"
        else:
            second.set()
        return vectors(texts)

    with scripted(say) as service:
        assert run(service.url, "embed", "-o", tmp_path / "v.npy", stdin=INPUT).exit_code == 0
    np.testing.assert_array_equal(matrix(tmp_path / "v.npy"), expected())
    assert service.priorities == {"u=5"}
    assert max(len(body["texts"]) for body in service.asked) == 256


def test_a_busy_service_is_asked_again_when_it_says(tmp_path: Path, no_pauses: list[float]) -> None:
    def say(number: int, texts: list[str]) -> Said:
        match number % 3:
            case 1:
                return refusal(503, "RESOURCE_EXHAUSTED", "as many requests as may wait", Retry_After="7")
            case 2:
                return refusal(429, "RATE_LIMIT_EXCEEDED", "too many requests", Retry_After="3")
        return vectors(texts)

    with scripted(say) as service:
        assert run(service.url, "embed", "-o", tmp_path / "v.npy", stdin=INPUT).exit_code == 0
    np.testing.assert_array_equal(matrix(tmp_path / "v.npy"), expected())
    assert set(no_pauses) == {7, 3}


@pytest.mark.parametrize(
    ("said", "times"),
    [
        (refusal(503, "RESOURCE_EXHAUSTED", "it never fits"), 0),
        (refusal(503, "RESOURCE_EXHAUSTED", "come tomorrow", Retry_After="86400"), 0),
        (refusal(503, "RESOURCE_EXHAUSTED", "always busy", Retry_After="200"), 3),
        (refusal(503, "MODEL_LOAD_FAILED", "not on this machine", Retry_After="5"), 0),
    ],
)
def test_what_waiting_does_not_help_is_said(no_pauses: list[float], said: Said, times: int) -> None:
    with scripted(lambda *_: said) as service:
        done = run(service.url, "embed", "--text", "a")
    assert (done.exit_code, done.stdout, len(no_pauses)) == (1, "", times)
    assert done.stderr.strip() == json.loads(said[2])["error"]["message"]


def test_a_service_that_is_restarted_costs_nothing(tmp_path: Path, no_pauses: list[float]) -> None:
    with scripted(lambda number, texts: None if 5 <= number <= 9 else vectors(texts)) as service:
        assert run(service.url, "embed", "-o", tmp_path / "v.npy", stdin=INPUT).exit_code == 0
    np.testing.assert_array_equal(matrix(tmp_path / "v.npy"), expected())
    assert no_pauses


def test_a_service_that_is_gone_for_good_leaves_nothing_half_done(tmp_path: Path, no_pauses: list[float]) -> None:
    with scripted(lambda number, texts: vectors(texts) if number <= 5 else None) as service:
        done = run(service.url, "embed", "-o", tmp_path / "v.npy", stdin=INPUT)
    assert (done.exit_code, "No service answers" in done.stderr) == (1, True)
    assert [*tmp_path.iterdir()] == []


def test_one_that_was_never_there_is_not_waited_for(no_pauses: list[float]) -> None:
    done = run(f"http://127.0.0.1:{free_port()}", "embed", "--text", "a")
    assert (done.exit_code, no_pauses) == (1, [])
    assert "start one with `homelab-ai serve`" in done.stderr


def test_vectors_that_do_not_belong_together_are_never_mixed(tmp_path: Path) -> None:
    with scripted(lambda number, texts: vectors(texts, fingerprint="f2" if number > 6 else "f1")) as service:
        done = run(service.url, "embed", "-o", tmp_path / "v.npy", stdin=INPUT)
    assert (done.exit_code, "has changed its model" in done.stderr) == (1, True)
    assert [*tmp_path.iterdir()] == []


def test_the_text_that_the_model_fails_on_is_named(tmp_path: Path) -> None:
    def say(number: int, texts: list[str]) -> Said:
        if TEXTS[1234] in texts:
            return refusal(500, "INFERENCE_FAILED", "the model could not answer")
        return vectors(texts)

    (tmp_path / "texts.txt").write_bytes(INPUT)
    with scripted(say) as service:
        done = run(service.url, "embed", tmp_path / "texts.txt")
    assert (done.exit_code, done.stderr) == (1, f"{tmp_path}/texts.txt:1235: the model could not answer\n")
    assert [json.loads(line)["text"] for line in done.stdout.splitlines()] == TEXTS[:1024], "in order, up to its batch"


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_who_stops_it_does_not_wait_and_finds_nothing_half_done(tmp_path: Path, number: int, status: int) -> None:
    waiting, end = threading.Event(), threading.Event()

    def say(count: int, texts: list[str]) -> Said:
        if count > 4:
            waiting.set()
            end.wait(30)
        return vectors(texts)

    (tmp_path / "texts.txt").write_bytes(INPUT)
    with scripted(say) as service:
        command = typed("embed", tmp_path / "texts.txt", "-o", tmp_path / "v.npy")
        process = subprocess.Popen(command, env=environment(service.url), stderr=subprocess.PIPE)
        try:
            assert waiting.wait(30)
            assert [each.name for each in tmp_path.iterdir() if each.suffix == ".part"], "it was being written"
            process.send_signal(number)
            _, errors = process.communicate(timeout=15)
        finally:
            process.kill()
            end.set()
    assert process.returncode == status
    assert errors == (b"interrupted\n" if number == signal.SIGINT else b"")
    assert [each.name for each in tmp_path.iterdir()] == ["texts.txt"]


def test_head_ends_it_without_a_word(tmp_path: Path) -> None:
    (tmp_path / "texts.txt").write_bytes(INPUT)
    with scripted(lambda _, texts: vectors(texts)) as service:
        process = subprocess.Popen(
            typed("embed", tmp_path / "texts.txt"),
            env=environment(service.url),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        assert process.stdout
        assert process.stderr
        assert json.loads(process.stdout.readline())["text"] == TEXTS[0]
        process.stdout.close()
        assert (process.wait(30), process.stderr.read()) == (141, b"")
        process.stderr.close()


ON_LINUX = pytest.mark.skipif(not Path("/dev/full").exists(), reason="only Linux has a disk that is always full")


@ON_LINUX
@pytest.mark.parametrize("words", ["--help", "config show", "config check --json"])
def test_every_command_says_that_the_disk_is_full(words: str) -> None:
    with open("/dev/full", "wb") as full:
        done = subprocess.run(typed(*words.split()), stdout=full, stderr=subprocess.PIPE, check=False)
    assert (done.returncode, done.stderr) == (1, b"cannot write: No space left on device\n")


@ON_LINUX
def test_a_full_disk_is_said(tmp_path: Path) -> None:
    (tmp_path / "texts.txt").write_bytes(INPUT)
    limit = 1_000_000

    def small_files() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    with scripted(lambda _, texts: vectors(texts)) as service, open("/dev/full", "wb") as full:
        command, around = typed("embed", tmp_path / "texts.txt"), environment(service.url)
        done = subprocess.run(command, env=around, stdout=full, stderr=subprocess.PIPE, check=False)
        assert (done.returncode, done.stderr) == (1, b"cannot write: No space left on device\n")
        done = subprocess.run(
            [*command, "-o", tmp_path / "v.npy"],
            env=around | {"PYTHONDONTWRITEBYTECODE": "1"},
            stderr=subprocess.PIPE,
            check=False,
            preexec_fn=small_files,
        )
        assert (done.returncode, done.stderr) == (
            1,
            f"{tmp_path}/v.npy cannot be written: File too large\n".encode(),
        )
    assert [each.name for each in tmp_path.iterdir()] == ["texts.txt"]


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="only Linux says how much a program ever held")
def test_a_hundred_thousand_lines_take_no_more_memory_than_a_few(tmp_path: Path) -> None:
    program = (
        "import pathlib, re, sys; from homelab_ai.cli import cli; cli(sys.argv[1:], standalone_mode=False); "
        # Not ru_maxrss, which begins with what the parent held.
        "print(re.search(r'VmHWM:\\s+(\\d+) kB', pathlib.Path('/proc/self/status').read_text())[1])"
    )
    peaks = []
    with scripted(lambda _, texts: vectors(texts)) as service:
        for count in (5_000, 100_000):
            (tmp_path / "texts.txt").write_text("".join(f"{number:>200}\n" for number in range(count)))
            command = [sys.executable, "-c", program, "embed", str(tmp_path / "texts.txt"), "-o", f"{tmp_path}/v.npy"]
            done = subprocess.run(
                [*command, "--force"], env=environment(service.url), stdout=subprocess.PIPE, check=True, text=True
            )
            peaks.append(int(done.stdout) * 1024)
    rows = np.load(tmp_path / "v.npy", mmap_mode="r")
    assert rows.shape == (100_000, DIMENSIONS)
    np.testing.assert_array_equal(rows[99_999], vector_of(f"{99_999:>200}"))
    assert peaks[1] - peaks[0] < rows.nbytes / 5


def test_on_a_terminal_it_is_seen_how_far_it_is(tmp_path: Path) -> None:
    end = threading.Event()

    def say(number: int, texts: list[str]) -> Said:
        if texts[0] == TEXTS[512]:
            assert end.wait(30)
        return vectors(texts)

    (tmp_path / "texts.txt").write_bytes(INPUT)
    arguments = ("embed", str(tmp_path / "texts.txt"), "-o", str(tmp_path / "v.npy"))
    with scripted(say) as service, Terminal(*arguments, environment=environment(service.url)) as terminal:
        terminal.wait_for("512 texts, ")
        end.set()
        terminal.wait_for("v.npy: 3,000 vectors of 384 numbers by scripted, fingerprint f1")
