"""What every command shares: where the home is, who asks, how the answer and the errors are printed.

With ``--json`` exactly one JSON document goes to standard output and everything else to standard error.
"""

from __future__ import annotations

import functools
import json
import os
import re
import sys
import unicodedata
from collections.abc import Callable, Generator, Iterable, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Concatenate, ParamSpec

import click
from click.core import ParameterSource
from rich.box import SIMPLE
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from strongroom.access.identity import Identity
from strongroom.access.policy import Action, Question
from strongroom.core.errors import BadInput, OutputLost, PassphraseUnreadable
from strongroom.core.ids import CheckpointName
from strongroom.core.secrets import Secret
from strongroom.wiring.home import Home, open_home

P = ParamSpec("P")
Json = str | int | bool | float | None | list["Json"] | Mapping[str, "Json"]

_PIPED_WIDTH = 180  # columns
_PASSPHRASE_LIMIT = 4096  # bytes: longer is somebody's mistake
_SHORT = frozenset({"#", "at", "since", "role", "status", "version", "tensors", "bytes", "outcome"})  # never wrapped
_STAMP = re.compile(r"(\d{4}-\d\d-\d\d)T(\d\d:\d\d:\d\d)\.\d+Z", re.ASCII)
_MOVING = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})  # Unicode's categories of what moves, hides or reorders
_HARMLESS = frozenset("\n\t\u200c\u200d")  # the joiners spell some scripts, and are in many an emoji


class PipeClosed(Exception):
    """What reads standard output went away: the command ends, quietly."""


class Call:
    """One run of a command: its common options, its home (opened when asked for), its output."""

    def __init__(self, options: Mapping[str, str | bool | None]) -> None:
        """Take the common options, the nearest to the verb first."""
        self._options = options
        self._resources = ExitStack()
        self._home: Home | None = None
        self.unwitnessed = False  # for the one command that mends the witness itself
        self.as_json = bool(options.get("as_json"))
        self.err = Console(stderr=True, highlight=False)
        self.out = screen()

    # ── where and who ────────────────────────────────────────────────────────────────────────────────────────────────
    @property
    def home_path(self) -> Path:
        """The home's folder: ``--home``, else ``STRONGROOM_HOME``, else ``~/.strongroom``."""
        named = self._options.get("home") or os.environ.get("STRONGROOM_HOME")
        return Path(str(named)).expanduser() if named else Path.home() / ".strongroom"

    @property
    def home(self) -> Home:
        """The home, opened at first use and closed when the command ends."""
        if self._home is None:
            self._home = open_home(self.home_path, witnessed=not self.unwitnessed)
            self._resources.callback(self._home.close)
        return self._home

    def identity(self) -> Identity:
        """Return who asks: by ``--as`` and ``--passphrase-file``, else environment, else session, else `owner`."""
        named, file = self.credentials()
        if file is None:
            session = self.home.sessions.current()
            now = self.home.clock.now().timestamp()
            if session is not None and named in {None, session.name} and session.expires > now:
                return self.home.desk.resume(session.name, session.seed)
        return self.home.desk.authenticate(*self.passphrase())

    def passphrase(self) -> tuple[str, Secret]:
        """Return who is named and their passphrase, read from the file or asked for."""
        named, file = self.credentials()
        session = None if named else self.home.sessions.current()
        name = named or (session.name if session else "owner")
        return name, read_passphrase(file, f"Passphrase of {plain(name)}")

    def ask(self, action: Action, checkpoint: CheckpointName | None = None) -> str:
        """Return the ledger's name of who asks, once that one may; these questions need no key.

        Whoever shows credentials is held to the policy. Without any, the operating system's user is named: reading what
        needs no key is guarded by the home's file permissions alone (SECURITY.md).
        """
        named, file = self.credentials()
        if named is None and file is None and self.home.sessions.current() is None:
            return f"os:{os.getuid()}"
        who = self.identity()
        self.home.desk.require(who, Question(action, checkpoint))
        return who.label

    def credentials(self) -> tuple[str | None, str | None]:
        """Return the name and the passphrase file that were given, by option or environment."""
        said, file = self._options.get("who"), self._options.get("passphrase_file")
        ambient = os.environ.get("STRONGROOM_AS") or None
        named = str(said) if said else ambient
        if file is None and (said is None or ambient is None or said == ambient):
            file = os.environ.get("STRONGROOM_PASSPHRASE_FILE") or None
        return named, None if file is None else str(file)

    # ── output ───────────────────────────────────────────────────────────────────────────────────────────────────────
    def emit(self, document: Mapping[str, Json], show: Callable[[Console], None] | str) -> None:
        """Print `document` with ``--json``, else what `show` says to people."""
        if self.as_json:
            put(json.dumps(document, indent=2, ensure_ascii=False) + "\n")
        elif isinstance(show, str):
            put("\n".join(map(plain, show.split("\n"))) + "\n")
        else:
            with self.out.capture() as shown:
                show(self.out)
            put(shown.get())

    @contextmanager
    def progress(self, title: str, *, unit: str = "bytes") -> Generator[Callable[[int, int], None]]:
        """Show a bar on standard error, if that is a terminal; yields ``step(done, total)``."""
        count = DownloadColumn() if unit == "bytes" else TextColumn("{task.completed}/{task.total} " + unit)
        columns = (TextColumn("{task.description}"), BarColumn(), count, TimeRemainingColumn())
        with Progress(*columns, console=self.err, transient=True, disable=not self.err.is_terminal) as bar:
            task = bar.add_task(title, total=None)
            yield lambda done, total: bar.update(task, completed=done, total=total)

    def close(self) -> None:
        """Let go of the home."""
        self._resources.close()


def screen() -> Console:
    """Return standard output for people: as wide as the terminal, and wide where it is a file or a pipe."""
    return Console(highlight=False, width=None if sys.stdout.isatty() else _PIPED_WIDTH)


def table(*columns: str, rows: Iterable[Iterable[object]], styles: Iterable[str] = ()) -> Table:
    """Return a table whose cells show what others wrote as plain text: no markup, no control characters."""
    made, looks = Table(box=SIMPLE, pad_edge=False, padding=(0, 1, 0, 0)), list(styles)
    for column in columns:
        made.add_column(column, overflow="fold", no_wrap=column in _SHORT)
    for number, row in enumerate(rows):
        made.add_row(*(Text(plain(cell)) for cell in row), style=looks[number] if looks else None)
    return made


def plain(value: object) -> str:
    """Return `value` as text that moves no cursor: control characters are spelled out."""
    return "".join(
        letter if letter.isprintable() else letter.encode("unicode_escape").decode() for letter in str(value)
    )


def readable(text: str) -> str:
    """Return text of several lines, spacing and joiners kept, with every other control character spelled out."""
    return "".join(
        letter
        if letter in _HARMLESS or unicodedata.category(letter) not in _MOVING
        else letter.encode("unicode_escape").decode()
        for letter in text
    )


def moment(text: str) -> str:
    """Return a time stamp as tables show it: to the second, with a space."""
    found = _STAMP.fullmatch(text)
    return f"{found[1]} {found[2]}Z" if found else text


def put(text: str) -> None:
    """Write to standard output, at once.

    Raises:
        PipeClosed: nobody reads it any more.
        OutputLost: it can't be written.

    """
    try:
        sys.stdout.write(text.encode("utf-8", "backslashreplace").decode())
        sys.stdout.flush()
    except BrokenPipeError:
        raise PipeClosed from None
    except OSError as error:
        raise OutputLost(f"standard output can't be written ({error.strerror})", where="standard output") from None


class Place(click.Path):
    """A path that is given, so not the empty word: that would mean the folder one happens to be in."""

    def convert(
        self, value: str | os.PathLike[str], param: click.Parameter | None, ctx: click.Context | None
    ) -> str | bytes | os.PathLike[str]:
        """Return the path.

        Raises:
            BadInput: it is empty.

        """
        if param is not None:
            _check_word(os.fspath(value), param)
        return super().convert(value, param, ctx)


def _check_words(context: click.Context, given: Mapping[str, object]) -> None:
    """Return if every word on the command line can be written down: purposes and places go into the ledger."""
    for param in context.command.params:
        value = given.get(param.name or "")
        typed = context.get_parameter_source(param.name or "") is ParameterSource.COMMANDLINE
        if typed and isinstance(value, str | Path):
            _check_word(str(value), param)


def _check_word(text: str, param: click.Parameter) -> None:
    """Return if `text` says something, and is text.

    Raises:
        BadInput: it is empty, or no UTF-8.

    """
    where = param.opts[0] if isinstance(param, click.Option) else param.human_readable_name
    if not text.strip():
        raise BadInput(f"{where} is empty", where=where)
    if any(unicodedata.category(letter) == "Cs" for letter in text):
        raise BadInput(f"{where} is not UTF-8 text", where=where)


def read_secret(file: str, what: str, option: str) -> Secret:
    """Return the one line in `file` (``-``: standard input), which is `what` and was named by `option`.

    Raises:
        BadInput: it can't be read, is empty or more than one line.

    """
    try:
        return read_passphrase(file, what)
    except PassphraseUnreadable as error:
        message = error.message.replace("passphrase", what)
        raise BadInput(message, where=error.where, remedy=f"Give {option} FILE: one line, not empty.") from None


def read_passphrase(file: str | None, prompt: str, *, confirm: bool = False) -> Secret:
    """Return the passphrase in `file` (``-``: standard input) without its line end, or ask for it at the terminal.

    Raises:
        PassphraseUnreadable: the file can't be read or is empty, or there is no terminal to ask at.

    """
    if file is not None:
        raw = _passphrase_bytes(file)
    elif sys.stdin.isatty():
        raw = str(click.prompt(prompt, hide_input=True, err=True, confirmation_prompt=confirm)).encode()
    else:
        raise PassphraseUnreadable("no passphrase file was given and there is no terminal to ask at", where=prompt)
    line = raw.removesuffix(b"\n").removesuffix(b"\r")
    if not line or b"\n" in line:
        raise PassphraseUnreadable("the passphrase is empty, or more than one line", where=file or prompt)
    return Secret(line)


def _passphrase_bytes(file: str) -> bytes:
    try:
        raw = sys.stdin.buffer.read(_PASSPHRASE_LIMIT + 1) if file == "-" else _head(Path(file))
    except OSError as error:
        raise PassphraseUnreadable(f"the passphrase file can't be read ({error.strerror})", where=file) from None
    if len(raw) > _PASSPHRASE_LIMIT:
        raise PassphraseUnreadable(f"over {_PASSPHRASE_LIMIT} bytes: not a passphrase", where=file)
    return raw


def _head(path: Path) -> bytes:
    with path.open("rb") as stream:
        return stream.read(_PASSPHRASE_LIMIT + 1)


_COMMON = (
    click.option("--home", metavar="DIR", help="The home (else STRONGROOM_HOME, else ~/.strongroom)."),
    click.option("--json", "as_json", is_flag=True, default=None, help="Print one JSON document on standard output."),
    click.option("--as", "who", metavar="WHO", help="Who asks (else STRONGROOM_AS, else the session, else owner)."),
    click.option("--passphrase-file", metavar="FILE", help="A file with WHO's passphrase; '-' is standard input."),
)
_NAMES = ("home", "as_json", "who", "passphrase_file")


class Group(click.Group):
    """A group that takes the common options too, so that they may stand before or after the verb."""

    def __init__(self, name: str | None = None, **attributes: object) -> None:
        """Make the group and give it the common options."""
        super().__init__(name, callback=_remember, **attributes)  # type: ignore[arg-type] - click's own keywords
        for option in _COMMON:
            option(self)


def _remember(**options: str | bool | None) -> None:
    context = click.get_current_context()
    _check_words(context, options)
    inherited: dict[str, str | bool | None] = dict(context.obj or {})
    context.obj = inherited | {name: value for name, value in options.items() if value is not None}


def common(verb: Callable[Concatenate[Call, P], int | None]) -> Callable[P, int | None]:
    """Give a verb the common options, and its `Call` as first argument."""

    @functools.wraps(verb)
    def run(*args: P.args, **kwargs: P.kwargs) -> int | None:
        context = click.get_current_context()
        _check_words(context, kwargs)
        nearest = {name: kwargs.pop(name, None) for name in _NAMES}
        outer: dict[str, str | bool | None] = dict(context.obj or {})
        call = Call(outer | {name: value for name, value in nearest.items() if value is not None})  # type: ignore[arg-type]
        context.call_on_close(call.close)
        return verb(call, *args, **kwargs)

    decorated: Callable[P, int | None] = run
    for option in reversed(_COMMON):
        decorated = option(decorated)
    return decorated
