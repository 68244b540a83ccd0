"""``strongroom``: the groups, and the outermost frame that turns every error into words and an exit status."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from contextlib import suppress

import click

from strongroom import __version__
from strongroom.cli.access import access
from strongroom.cli.attacks import attacks
from strongroom.cli.custody import custody
from strongroom.cli.demo import demo
from strongroom.cli.engine import engine
from strongroom.cli.frame import Group, PipeClosed, plain, put
from strongroom.cli.home import home, init
from strongroom.cli.ledger import ledger
from strongroom.cli.lineage import lineage
from strongroom.cli.privacy import privacy
from strongroom.cli.serving import serving
from strongroom.cli.up import up
from strongroom.cli.watermark import watermark
from strongroom.core.errors import Interrupted, OutputLost, StrongroomError, UsageError
from strongroom.core.log import configure, log
from strongroom.custody.memory import harden_process

_PIPE_CLOSED = 141  # as a shell says of a program that SIGPIPE ended

root = Group(
    "strongroom",
    help="Keeps AI models yours: sealed at rest, logged at every touch, exported only under two people's eyes.",
    commands=[init, home, access, custody, engine, up, serving, watermark, lineage, privacy, attacks, ledger, demo],
)
root = click.version_option(__version__)(root)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; return its exit status."""
    configure("warning")
    words = list(sys.argv[1:] if arguments is None else arguments)
    try:
        outcome = root.main(words, prog_name="strongroom", standalone_mode=False)
        put("")
    except (PipeClosed, SystemExit):  # click ends so where its own help meets a closed pipe
        _drop_output()
        return _PIPE_CLOSED
    except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001 - the outermost frame: nothing may print its contents
        return _fail(_typed(error), as_json=_wants_json(words))
    return outcome if isinstance(outcome, int) else 0


def _typed(error: BaseException) -> StrongroomError:
    """Return whatever was raised as an error of the tree."""
    if isinstance(error, StrongroomError):
        return error
    if isinstance(error, click.ClickException):
        return _usage(error)
    if isinstance(error, KeyboardInterrupt | click.Abort):
        return Interrupted("interrupted", where="strongroom")
    if isinstance(error, OSError) and (lost := _output_lost()):
        return lost
    log.error("internal error", code=type(error).__name__)
    return _internal(error)


def _output_lost() -> OutputLost | None:
    """Return what is wrong with standard output: what could not be written is still in its buffer."""
    try:
        put("")
    except OutputLost as lost:
        return lost
    return None


def _wants_json(words: Sequence[str]) -> bool:
    """Whether ``--json`` was asked for, even where the words could not be parsed; what follows ``--`` is not ours."""
    ours = words[: words.index("--")] if "--" in words else words
    return "--json" in ours


def _usage(error: click.ClickException) -> UsageError:
    where = error.ctx.command_path if isinstance(error, click.UsageError) and error.ctx else "strongroom"
    return UsageError(error.format_message(), where=where)


def _internal(error: BaseException) -> StrongroomError:
    frame = error.__traceback__
    while frame is not None and frame.tb_next is not None:
        frame = frame.tb_next
    place = "strongroom" if frame is None else f"{frame.tb_frame.f_code.co_qualname}:{frame.tb_lineno}"
    return StrongroomError(f"an unforeseen {type(error).__name__}", where=place)


def _fail(error: StrongroomError, *, as_json: bool) -> int:
    """Say what went wrong, and return the exit status."""
    if isinstance(error, OutputLost):
        _drop_output()
        _tell(f"{error.code}: {plain(error.message)}\n")
    elif as_json:
        return _answer(error)
    else:
        words = (plain(error.message), f"where: {plain(error.where)}", f"remedy: {plain(error.advice)}")
        _tell(f"{error.code}: " + "\n  ".join(words) + "\n")
    return error.exit_status


def _answer(error: StrongroomError) -> int:
    """Print the error as a JSON document on standard output; return the exit status."""
    try:
        put(json.dumps({"error": error.document()}, indent=2, ensure_ascii=False) + "\n")
    except PipeClosed:
        _drop_output()
        return _PIPE_CLOSED
    except OutputLost as lost:
        return _fail(lost, as_json=True)
    return error.exit_status


def _tell(text: str) -> None:
    """Write to standard error, where that can be written."""
    with suppress(OSError):
        sys.stderr.write(text)
        sys.stderr.flush()


def _drop_output() -> None:
    """Lead standard output nowhere, so that Python does not try to write the rest of it at the end."""
    with suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)


def entry() -> None:
    """Run as a program: no core dumps, and no debugger of the same user (rule 2)."""
    harden_process()
    sys.exit(main())
