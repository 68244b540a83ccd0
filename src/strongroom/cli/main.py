"""``strongroom``: the groups, and the outermost frame that turns every error into words and an exit status."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence

import click

from strongroom import __version__
from strongroom.cli.access import access
from strongroom.cli.custody import custody
from strongroom.cli.demo import demo
from strongroom.cli.engine import engine
from strongroom.cli.frame import Group
from strongroom.cli.home import home, init
from strongroom.cli.ledger import ledger
from strongroom.core.errors import StrongroomError, UsageError
from strongroom.core.log import configure, log
from strongroom.custody.memory import harden_process

root = Group(
    "strongroom",
    help="Keeps AI models yours: sealed at rest, logged at every touch, exported only under two people's eyes.",
    commands=[init, home, access, custody, engine, ledger, demo],
)
root = click.version_option(__version__)(root)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; return its exit status."""
    configure("warning")
    words = list(sys.argv[1:] if arguments is None else arguments)
    try:
        outcome = root.main(words, prog_name="strongroom", standalone_mode=False)
    except StrongroomError as error:
        return _fail(error, as_json=_wants_json(words))
    except click.ClickException as error:
        return _fail(_usage(error), as_json=_wants_json(words))
    except (KeyboardInterrupt, click.Abort):
        sys.stderr.write("interrupted\n")
        return 130
    except Exception as error:  # noqa: BLE001 - the outermost frame: whatever is left must not print its contents
        log.error("internal error", code=type(error).__name__)
        return _fail(_internal(error), as_json=_wants_json(words))
    return outcome if isinstance(outcome, int) else 0


def _wants_json(words: Sequence[str]) -> bool:
    """Whether ``--json`` was asked for, even where the words could not be parsed; what follows ``--`` is not ours."""
    ours = words[: words.index("--")] if "--" in words else words
    return "--json" in ours


def _usage(error: click.ClickException) -> UsageError:
    where = error.ctx.command_path if isinstance(error, click.UsageError) and error.ctx else "strongroom"
    return UsageError(error.format_message(), where=where)


def _internal(error: Exception) -> StrongroomError:
    frame = error.__traceback__
    while frame is not None and frame.tb_next is not None:
        frame = frame.tb_next
    place = "strongroom" if frame is None else f"{frame.tb_frame.f_code.co_qualname}:{frame.tb_lineno}"
    return StrongroomError(f"an unforeseen {type(error).__name__}", where=place)


def _fail(error: StrongroomError, *, as_json: bool) -> int:
    if as_json:
        sys.stdout.write(json.dumps({"error": error.document()}, indent=2, ensure_ascii=False) + "\n")
    else:
        sys.stderr.write(f"{error.code}: {error.message}\n  where: {error.where}\n  remedy: {error.advice}\n")
    return error.exit_status


def entry() -> None:
    """Run as a program: no core dumps, and no debugger of the same user (rule 2)."""
    harden_process()
    sys.exit(main())
