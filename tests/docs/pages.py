"""The pages, and the commands in them."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import click

from strongroom.cli.main import root

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
COMMON = {"--home", "--json", "--as", "--passphrase-file", "--help"}

_FENCE = re.compile(r"^```(.*)\n((?:.*\n)*?)```$", re.MULTILINE)
_ENDS = {"|", "||", "&&", ";", ">", ">>", "<", "&"}


def page(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def fences(text: str, kind: str) -> list[str]:
    """Return the contents of the fenced blocks whose info string is `kind`."""
    return [match[2] for match in _FENCE.finditer(text) if match[1].strip() == kind]


def section(text: str, heading: str) -> str:
    """Return what stands under `heading`, up to the next heading of its level or above."""
    start = re.search(rf"^(#+) {re.escape(heading)}$", text, re.MULTILINE)
    assert start, f"no heading {heading!r}"
    rest = text[start.end() :]
    end = re.search(rf"^#{{1,{len(start[1])}}} ", rest, re.MULTILINE)
    return rest[: end.start()] if end else rest


def rows(text: str) -> Iterator[list[str]]:
    """Yield the cells of each table row of `text`, headings and rules left out."""
    lines = text.splitlines()
    for at, line in enumerate(lines):
        heading = at + 1 < len(lines) and lines[at + 1].startswith("| ---")
        if line.startswith("| ") and not line.startswith("| ---") and not heading:
            yield [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]


def leaves(command: click.Command = root, path: tuple[str, ...] = ()) -> Iterator[tuple[str, click.Command]]:
    """Yield every command of the tree with its words."""
    if not isinstance(command, click.Group):
        yield " ".join(path), command
        return
    for name in sorted(command.commands):
        yield from leaves(command.commands[name], (*path, name))


def commands_in(text: str) -> Iterator[list[str]]:
    """Yield the words of each ``strongroom …`` command in shell text, without what the shell takes for itself."""
    for line in text.replace("\\\n", " ").splitlines():
        for piece in re.findall(r"\bstrongroom [^)]*", line):
            lexer = shlex.shlex(piece, posix=True, punctuation_chars="|&;<>")
            lexer.whitespace_split = True
            lexer.commenters = "#"
            words: list[str] = []
            for word in lexer:
                if word in _ENDS:
                    break
                words.append(word)
            yield words[1:]


def parse(words: list[str]) -> None:
    """Parse `words` against the tree: groups, verbs, options and the number of arguments must fit.

    Values are not looked at: the files that they name need not be there.
    """
    command: click.Command = root
    context = click.Context(root, info_name="strongroom")
    rest = list(words)
    while isinstance(command, click.Group):
        _, rest, _ = command.make_parser(context).parse_args(rest)
        assert rest, f"no verb in {words}"
        name = rest.pop(0)
        assert name in command.commands, f"no {name!r} in {context.command_path}"
        command = command.commands[name]
        context = click.Context(command, info_name=name, parent=context, **command.context_settings)
    values, left, _ = command.make_parser(context).parse_args(rest)
    assert not left, f"{left} left over in {words}"
    missing = [one.name for one in command.params if one.required and not _given(values.get(one.name or ""))]
    assert not missing, f"{missing} missing in {words}"


def _given(value: object) -> bool:
    return isinstance(value, str | int) or (isinstance(value, tuple) and bool(value))
