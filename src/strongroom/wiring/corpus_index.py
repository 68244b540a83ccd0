"""Building a window index and asking it, with a key of the home or one from a file."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from strongroom.access.identity import Identity
from strongroom.access.policy import Question
from strongroom.core.clock import SystemClock, stamp
from strongroom.core.errors import BadInput, InputTooLarge
from strongroom.core.ids import new_id
from strongroom.core.secrets import Secret
from strongroom.ledger.journal import Act, Detail
from strongroom.privacy.windows.check import Found, check
from strongroom.privacy.windows.layout import KEY_BYTES, Header, read_sealed
from strongroom.privacy.windows.reader import WindowIndex, open_windows
from strongroom.wiring.home import Home
from strongroom.wiring.privacy import corpus_master, index_key
from strongroom.wiring.table import load

if TYPE_CHECKING:
    from strongroom.privacy.windows.build import Order

Progress = Callable[[int, int], None]
TEXT_LIMIT: Final = 64 << 20  # bytes of a text that is compared
_KIND: Final = "idx"


@dataclass(frozen=True, slots=True)
class Keeper:
    """Whose key an index has: a home's, asked for by somebody; or that of a file, and then nothing is logged."""

    home: Home | None = None
    who: Identity | None = None
    own: Secret | None = None

    def key(self, index_id: str, purpose: str) -> Secret:
        """Return the key of an index.

        Raises:
            NotPermitted: the policy does not let them keep corpora.
            WrongKey: nobody wrapped the house's secret to them.

        """
        if self.own is not None:
            return self.own
        home, who = self._asked()
        home.desk.require(who, Question("privacy.corpus", purpose=purpose))
        return index_key(corpus_master(home, who, purpose), index_id)

    def record(self, action: str, index_id: str, detail: Detail) -> None:
        """Put into the ledger what was done."""
        if self.own is None:
            home, who = self._asked()
            home.journal.record(Act(who.label, action, f"index:{index_id}"), "done", detail=detail)

    def _asked(self) -> tuple[Home, Identity]:
        if self.home is None or self.who is None:
            raise BadInput("neither a home nor a key file was given", where="--key-file")
        return self.home, self.who


def read_key(file: Path) -> Secret:
    """Return the key in a file: 32 bytes, as they are or as 64 hexadecimal digits.

    Raises:
        BadInput: it can't be read, or holds something else.

    """
    try:
        with file.open("rb") as stream:
            raw = stream.read(4 * KEY_BYTES)
    except OSError as error:
        raise BadInput(f"the key file can't be read ({error.strerror})", where=str(file)) from None
    try:
        key = raw if len(raw) == KEY_BYTES else bytes.fromhex(raw.decode("ascii").strip())
    except ValueError:
        key = b""
    if len(key) != KEY_BYTES:
        raise BadInput("a key is 32 bytes, or 64 hexadecimal digits", where=str(file))
    return Secret(key)


def build_index(order: Order, keeper: Keeper, progress: Progress) -> Header:
    """Build an index; the ledger says of what, once it stands.

    Raises:
        MissingExtra: what indexes is not installed.
        AlreadyExists, BadInput, CorpusUnreadable, InputTooLarge, DiskFull, StoreUnavailable: see `windows.build`.

    """
    planned, build = load("corpus", "plan"), load("corpus", "index")
    index_id: str = planned(order, lambda: new_id(_KIND))
    clock = SystemClock() if keeper.home is None else keeper.home.clock
    key = keeper.key(index_id, "build a window index")
    header: Header = build(order, index_id, key, made=stamp(clock.now()), progress=progress)
    detail: Detail = {"corpus": header.corpus, "documents": header.documents, "windows": header.windows.entries}
    keeper.record("privacy.index", index_id, detail | {"window": header.window, "stride": header.stride})
    return header


def open_index(folder: Path, keeper: Keeper, purpose: str) -> WindowIndex:
    """Open an index, every byte of it checked.

    Raises:
        NoSuchIndex, WrongKey, IndexAltered: see `windows.reader`.
        NotPermitted: the policy does not let them keep corpora.

    """
    return open_windows(folder, keeper.key(read_sealed(folder).header.id, purpose))


def check_file(file: Path, folder: Path, keeper: Keeper) -> tuple[Found, WindowIndex]:
    """Say what of the text in `file` the corpus of the index in `folder` has; the ledger says that it was asked.

    Raises:
        BadInput: the file is no UTF-8 text.
        InputTooLarge: it is over `TEXT_LIMIT`.
        NoSuchIndex, WrongKey, IndexAltered, NotPermitted: see `open_index`.

    """
    with file.open("rb") as stream:
        raw = stream.read(TEXT_LIMIT + 1)
    if len(raw) > TEXT_LIMIT:
        raise InputTooLarge(f"a text of over {TEXT_LIMIT} bytes", where=str(file))
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError:
        raise BadInput("this is no UTF-8 text", where=str(file)) from None
    index = open_index(folder, keeper, "where a text comes from")
    found = check(text, index)
    detail: Detail = {"verdict": found.verdict, "words": found.words, "longest_run": found.longest_run}
    keeper.record("privacy.check", index.header.id, detail)
    return found, index
