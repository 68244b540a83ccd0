"""``strongroom watermark``: whose text is it."""

from __future__ import annotations

import sys
from pathlib import Path

import click
from msgspec import to_builtins

from strongroom.cli.frame import Call, Group, Json, common
from strongroom.core.errors import BadInput, InputTooLarge
from strongroom.core.ids import CheckpointName
from strongroom.wiring.recognise import Recognised, recognise

_MOST = 16 << 20  # bytes
_READABLE = -6

watermark = Group("watermark", help="The marks in the model's text: whose text is it, and how sure is that.")


@watermark.command("detect", epilog="Example: strongroom watermark detect leaked.txt --tokenizer chat:v1 --as ada")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, allow_dash=True, path_type=Path))
@click.option("--tokenizer", metavar="NAME:TAG", help="The checkpoint that may have written it; else all that served.")
@click.option(
    "--harmless",
    multiple=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="A text whose runs are left out: boilerplate, a source that both quote. May be given again.",
)
@common
def detect(call: Call, file: Path, *, tokenizer: str | None, harmless: tuple[Path, ...]) -> None:
    """Say whose mark the text in FILE carries: match, no_match or inconclusive, with what it can't tell. Logged."""
    if str(file) == "-" and call.credentials()[1] == "-":
        raise BadInput("standard input can be the text or the passphrase, not both", where="FILE, --passphrase-file")
    title = None if tokenizer is None else CheckpointName.parse(tokenizer)
    who = call.identity()
    found = recognise(call.home, who, _text(file), checkpoint=title, harmless=[_text(one) for one in harmless])
    document: dict[str, Json] = to_builtins(found.verdict)
    call.emit({**document, "tokenizer": found.tokenizer}, _words(found))


def _words(found: Recognised) -> str:
    one = found.verdict
    whose = f" {one.account}, epoch {one.epoch}" if one.account else ""
    tried = f"{one.candidates} key{'' if one.candidates == 1 else 's'}"
    return "\n".join(
        (
            f"{one.verdict}{whose}",
            f"  {one.reason}",
            f"  p = {_chance(one.log10_p)}, corrected for {tried} tried",
            *(f"  {each.account}, epoch {each.epoch}: p = {_chance(each.log10_p)}" for each in one.accused[1:]),
            f"  {one.scored} tokens scored; method {one.method}",
            *(f"  - {caveat}" for caveat in one.caveats),
        )
    )


def _chance(log10: float) -> str:
    """Return a chance for people: as a power of ten where it is too small to be read otherwise."""
    return f"{10**log10:.2g}" if log10 > _READABLE else f"10^{log10:.0f}"


def _text(file: Path) -> str:
    """Return the text in `file`.

    Raises:
        InputTooLarge: over 16 MiB.
        BadInput: it is no UTF-8 text.

    """
    try:
        with sys.stdin.buffer if str(file) == "-" else file.open("rb") as stream:
            raw = stream.read(_MOST + 1)
    except OSError as error:
        raise BadInput(f"can't be read ({error.strerror})", where=str(file)) from None
    if len(raw) > _MOST:
        raise InputTooLarge(f"over {_MOST} bytes", where=str(file), remedy="Cut out the passage in question.")
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        raise BadInput("this is no UTF-8 text", where=str(file)) from None
