"""`homelab-ai embed`: vectors of a real service, in every format that they are written in."""

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from support.commands import run
from support.server import Server

LINES = ["The cat sleeps", "", "A dog barks", "  Grüße aus Köln  ", "The cat sleeps", "last"]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    config = "limits: {max_texts: 200}\nsecurity: {allow_localhost: true}\n"
    with Server(tmp_path_factory.mktemp("service"), config=config) as server:
        yield server


@pytest.fixture
def lines(tmp_path: Path) -> Path:
    (tmp_path / "lines.txt").write_bytes(b"\r\n".join(line.encode() for line in LINES))
    return tmp_path / "lines.txt"


def expected(server: Server, texts: list[str]) -> tuple[list[list[float]], str]:
    with server.client() as client:
        answer = client.post("/api/embed", json={"texts": texts})
        return answer.json()["embeddings"], answer.headers["X-Embedding-Fingerprint"]


def read_npy(path: Path) -> Any:
    matrix = np.load(path, mmap_mode="r")
    assert matrix.dtype == np.float32
    return matrix


def read_parquet(path: Path) -> Any:
    table = pq.read_table(path)
    assert table.column_names == ["text", "embedding", "embedding_truncated"]
    assert table["text"].to_pylist() == LINES
    assert table["embedding_truncated"].to_pylist() == [False] * len(LINES)
    assert table.schema.metadata[b"embedding_model"] == b"minilm"
    assert len(table.schema.metadata[b"embedding_fingerprint"]) > 8
    return table["embedding"].to_pylist()


def read_jsonl(path: Path) -> Any:
    records = [json.loads(line) for line in path.read_text().splitlines()]
    assert [record["text"] for record in records] == LINES
    return [record["embedding"] for record in records]


@pytest.mark.parametrize(("name", "read"), [("v.npy", read_npy), ("v.parquet", read_parquet), ("v.jsonl", read_jsonl)])
def test_a_file_holds_the_vectors_of_the_api(
    server: Server, lines: Path, name: str, read: Callable[[Path], Any]
) -> None:
    path = lines.with_name(name)
    done = run(server.url, "embed", lines, "--output", path)
    assert (done.exit_code, done.stdout) == (0, "")
    vectors, fingerprint = expected(server, LINES)
    assert done.stderr == f"{path}: 6 vectors of 384 numbers by minilm, fingerprint {fingerprint}\n"
    np.testing.assert_array_equal(np.array(read(path), np.float32), np.array(vectors, np.float32))
    assert {each.name for each in lines.parent.iterdir()} == {"lines.txt", name}

    before = path.read_bytes()
    done = run(server.url, "embed", "-", "--output", path, stdin=b"another")
    assert (done.exit_code, "--force" in done.stderr, path.read_bytes() == before) == (1, True, True)
    assert run(server.url, "embed", "-", "--output", path, "--force", stdin=b"another").exit_code == 0
    assert path.read_bytes() != before


def test_a_pipe_gets_a_line_of_json_for_each_text(server: Server) -> None:
    texts = [f"{number} bottles" for number in range(450)]  # more than one request may hold
    done = run(server.url, "embed", stdin="\n".join(texts).encode())
    assert (done.exit_code, done.stderr) == (0, "")
    records = [json.loads(line) for line in done.stdout.splitlines()]
    vectors, fingerprint = expected(server, texts[-3:])
    assert [record["text"] for record in records] == texts
    np.testing.assert_allclose([record["embedding"] for record in records[-3:]], vectors, atol=1e-2)
    assert {record["embedding_fingerprint"] for record in records} == {fingerprint}


def test_records_keep_their_fields_and_whole_files_their_names(server: Server, tmp_path: Path) -> None:
    (tmp_path / "cards.jsonl").write_text('{"id": 7, "title": "The cat sleeps"}\n\n{"id": 8, "title": "Grüße\\n"}')
    done = run(server.url, "embed", tmp_path / "cards.jsonl", "--field", "title")
    records = [json.loads(line) for line in done.stdout.splitlines()]
    assert [(record["id"], record["title"]) for record in records] == [(7, "The cat sleeps"), (8, "Grüße\n")]

    path = tmp_path / "cards.parquet"
    assert run(server.url, "embed", tmp_path / "cards.jsonl", "--field", "title", "-o", path).exit_code == 0
    table = pq.read_table(path)
    assert [json.loads(record)["id"] for record in table["record"].to_pylist()] == [7, 8]

    (tmp_path / "letter.txt").write_text("Dear Sir,\nthe cat sleeps\n")
    done = run(server.url, "embed", "--whole", tmp_path / "letter.txt")
    (record,) = [json.loads(line) for line in done.stdout.splitlines()]
    assert record["file"] == str(tmp_path / "letter.txt")
    (vector,), _ = expected(server, ["Dear Sir,\nthe cat sleeps\n"])
    np.testing.assert_allclose(record["embedding"], vector, atol=1e-2)


def test_texts_that_are_too_long_are_named(server: Server) -> None:
    done = run(server.url, "embed", stdin=b"short\n" + b"word " * 5000 + b"\nshort again")
    assert done.exit_code == 0
    assert "Of 1 texts only the beginning is in the vector" in done.stderr
    assert done.stderr.endswith("window: standard input:2\n")
    assert [json.loads(line)["embedding_truncated"] for line in done.stdout.splitlines()] == [False, True, False]


def test_which_texts_are_alike_is_shown(server: Server) -> None:
    texts = ("--text", "The cat sleeps", "--text", "Shares fell in [Tokyo]", "--text", "A kitten is sleeping")
    done = run(server.url, "embed", "--similar", *texts)
    assert (done.exit_code, done.stderr) == (0, "")
    assert "Shares fell in [Tokyo]" in done.stdout
    assert "Most alike: 1 and 3 (0." in done.stdout
    found = json.loads(run(server.url, "embed", "--similar", "--json", *texts).stdout)
    assert [text["text"] for text in found["texts"]] == [*texts[1::2]]
    cosines = np.array(found["similarities"])
    np.testing.assert_allclose(np.diag(cosines), 1, atol=1e-5)
    assert cosines[0, 2] > 0.5 > cosines[0, 1]
    assert run(server.url, "embed", "--similar", "--text", "alone").exit_code == 2


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"fine\nbr\xffken\n", "lines.txt:2: it is not UTF-8 (byte 0xff at 2)"),
        ("fine".encode("utf-16"), "lines.txt:1: it is not UTF-8"),
        (b"fine\n\0\1\2\n", "lines.txt:2: it holds a NUL byte"),
        (b"a" * (8 * 1024 * 1024 + 1), "lines.txt:1: it is longer than 8 MB"),
    ],
)
def test_a_line_that_is_no_text_is_named_and_nothing_is_written(
    server: Server, lines: Path, content: bytes, said: str
) -> None:
    lines.write_bytes(content)
    done = run(server.url, "embed", lines, "-o", lines.with_name("v.npy"))
    assert (done.exit_code, done.stdout) == (1, "")
    assert said in done.stderr
    assert [*lines.parent.iterdir()] == [lines]


def test_nothing_to_embed(server: Server, tmp_path: Path) -> None:
    done = run(server.url, "embed")
    assert (done.exit_code, done.stdout, done.stderr) == (0, "", "")
    done = run(server.url, "embed", "-o", tmp_path / "v.npy")
    assert (done.exit_code, done.stderr) == (1, "There are no texts, so there is nothing to write\n")
    assert [*tmp_path.iterdir()] == []
    assert run(server.url, "embed", "-o", tmp_path / "v.jsonl").exit_code == 0
    assert (tmp_path / "v.jsonl").read_bytes() == b""


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (("--text", "a", "--whole"), 2, "--text is a text itself"),
        (("--whole", "--field", "x"), 2, "--whole and --field"),
        (("-o", "vectors"), 2, "none of .jsonl, .npy, .parquet"),
        (("--format", "npy"), 2, "--output vectors.npy"),
        (("--similar", "-o", "v.npy"), 2, "--similar prints a table"),
        (("--format", "csv"), 2, "--format"),
        (("-o", "/dev/null", "--format", "npy", "--force"), 1, "/dev/null is no file"),
        (("-o", "/nowhere/v.npy"), 1, "there is no folder /nowhere"),
        (("no-such-file",), 1, "no-such-file cannot be read: No such file"),
        (("--text", "a", "--model", "bert"), 3, "is called 'bert'"),
    ],
)
def test_what_stands_in_the_way_is_said(server: Server, arguments: tuple[str, ...], status: int, said: str) -> None:
    done = run(server.url, "embed", *arguments, stdin=b"text")
    assert (done.exit_code, done.stdout) == (status, "")
    assert said in done.stderr


def test_parquet_without_its_library_is_said(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    done = run(server.url, "embed", "--text", "a", "-o", tmp_path / "v.parquet")
    assert (done.exit_code, "homelab-ai-api[parquet]" in done.stderr) == (1, True)
    assert [*tmp_path.iterdir()] == []
