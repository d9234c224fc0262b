"""Command lines in the documentation, held to the command itself: its subcommands, arguments and options."""

import re
import shlex
from collections.abc import Iterator
from itertools import dropwhile, groupby
from typing import Any

import typer.main

from homelab_ai.cli import cli

_COMMAND = re.compile(r"(?:\.venv/bin/)?homelab-ai")
_ASSIGNMENT = re.compile(r"\w+=.*")
_BOUNDS = {"|", ">", ">>", "2>", "2>>", "&&", "||", ";", "&", "(", ")"}
_CARRIED_OUT_AT_ONCE = {"--help", "--version", "--install-completion", "--show-completion"}


def of_ours(script: str) -> Iterator[list[str]]:
    """The arguments of each `homelab-ai` in a script of a shell."""
    for line in script.replace("\\\n", " ").splitlines():
        lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
        lexer.whitespace_split = True
        for is_bound, group in groupby(lexer, _BOUNDS.__contains__):
            words = [*dropwhile(_ASSIGNMENT.fullmatch, () if is_bound else group)]
            if words[:2] == ["docker", "exec"]:
                words = [*dropwhile(lambda word: not _COMMAND.fullmatch(word), words)]
            if words and _COMMAND.fullmatch(words[0]):
                yield words[1:]


def check(arguments: list[str]) -> None:
    """Raise what the command says of these arguments, if it would not take them. Nothing is done."""
    if _CARRIED_OUT_AT_ONCE & {*arguments}:
        return
    command: Any = typer.main.get_command(cli)
    context, name = None, "homelab-ai"
    while True:
        context = command.make_context(name, [*arguments], parent=context)
        if not hasattr(command, "commands"):
            return
        name, command, arguments = command.resolve_command(context, [*context._protected_args, *context.args])
