"""What a model host says of an error."""

import sys

import pytest

from homelab_ai.models.hosts.process import _without_paths

OPTIONS = {"hf_model": "/srv/my models/bert", "models_dir": "/srv/my models"}


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("cannot read /etc/x.json: no such file", "cannot read (path): no such file"),
        ("the file at '/srv/my models/bert/config.json' is broken", "the file at (path) is broken"),
        ("the file at /srv/my models/bert/config.json is broken", "the file at (path) is broken"),
        ('"/home/me/some where/else"', "(path)"),
        (f"{sys.prefix}/lib/python3/x.py, line 3", "(path), line 3"),
        ("see https://huggingface.co/docs/x", "see https://huggingface.co/docs/x"),
        ("either/or", "either/or"),
        ("x" * 1000, "x" * 500),
    ],
)
def test_an_error_is_told_without_the_folders_of_this_machine(text: str, told: str) -> None:
    assert _without_paths(text, OPTIONS) == told
