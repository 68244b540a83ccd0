"""What stands in a reciter's way: a cleaner corpus, the gateway, and its output filter with this policy or that."""

from __future__ import annotations

import json
from collections.abc import Callable, Generator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from msgspec.structs import replace

from strongroom.attacks.project_house import house, roster
from strongroom.attacks.recite_corpus import Corpus
from strongroom.attacks.recite_doors import Door
from strongroom.attacks.recite_models import BOTH, DEDUPLICATED, FILTERED, RAW
from strongroom.attacks.recite_server import KEY, MODEL, Samples, saying
from strongroom.core.canonical import digest
from strongroom.core.secrets import Secret
from strongroom.engines.folder import make_folder
from strongroom.privacy.filter.rules import rules
from strongroom.privacy.windows.build import Order, build, planned
from strongroom.privacy.windows.reader import open_windows
from strongroom.privacy.windows.shard import Cut
from strongroom.privacy.windows.values import finder
from strongroom.serving.recall.policy import Policy
from strongroom.serving.roster import RosterRecall

FINE: Final = (5, 4)  # window and stride, words, as docs/recall.md recommends
COARSE: Final = (8, 8)  # what `privacy index build` makes unless it is told otherwise
_COMMON: Final = 5  # documents, as the command has it
_ACCOUNTS: Final = 64  # that a gateway lets in: one for each thing that is tried, for what one has gathered counts
_KEY: Final = bytes(range(32))  # of an index that knows nothing secret
_ID: Final = "recite-index"
_STAMP: Final = "2026-01-01T00:00:00Z"
FREE: Final = Policy(incidents_per_day=0)  # nobody is shut out: what the rules alone stop


@dataclass(frozen=True, slots=True)
class Guard:
    """Which model answers, and what looks at its answers."""

    name: str
    model: str = RAW
    policy: Policy | None = None  # of the output filter
    gateway: bool = True


GUARDS: Final = (
    Guard("none", gateway=False),
    Guard("filter", FILTERED, gateway=False),
    Guard("dedup", DEDUPLICATED, gateway=False),
    Guard("filter+dedup", BOTH, gateway=False),
    Guard("gateway"),
    Guard("recall-stop", policy=FREE),
    Guard("recall-refuse", policy=replace(FREE, action="refuse")),
    Guard("recall-resample", policy=replace(FREE, action="resample")),
    Guard("recall-mark", policy=replace(FREE, action="mark")),
    Guard("recall-default", policy=Policy()),
    Guard("filter+dedup+recall", BOTH, Policy()),
)


def ground_of(corpus: Corpus) -> str:
    """Return what rows and indexes rest on, in 16 hexadecimal digits: another ground is another folder's."""
    said = [*corpus.texts, repr(GUARDS), repr((FINE, COARSE, _COMMON)), rules().digest]
    return digest(said)[:16]


def index_of(corpus: Corpus, work: Path, size: tuple[int, int] = FINE) -> RosterRecall:
    """Return the index of all texts of the raw corpus, as control tells a gateway of it, building it once.

    `size`: its window and stride, words.

    Raises:
        StoreUnavailable: it can't be written.

    """
    raw = "".join(json.dumps({"text": one}) + "\n" for one in corpus.texts).encode()
    place = make_folder(work / f"indexed-{ground_of(corpus)}")
    source, folder, key = place / "corpus.jsonl", place / f"index-{size[0]}-{size[1]}", Secret(_KEY)
    if not folder.is_dir():
        if not (source.is_file() and source.read_bytes() == raw):  # written anew, it were another: no build goes on
            source.write_bytes(raw)
        order = Order(source, folder, Cut(*size, text="text"), common=_COMMON, values=finder)
        build(order, planned(order, lambda: _ID), key, made=_STAMP, progress=lambda _done, _total: None)
    header = open_windows(folder, key).header
    return RosterRecall(header.id, digest(header), str(folder.resolve()), _KEY)


@contextmanager
def guarded(samples: Samples, index: RosterRecall, policy: Policy | None) -> Generator[Callable[[str], Door]]:
    """Run an engine that says `samples` and a gateway before it; give what opens a door for an account of its own.

    Raises:
        StoreUnavailable: the gateway does not come up.

    """
    names = [f"thief-{at}" for at in range(_ACCOUNTS)]
    keys = {name: f"sk-{name}-on-loopback-only" for name in names}
    recall = None if policy is None else RosterRecall(index.index, index.digest, index.folder, index.key, policy)
    with ExitStack() as stack:
        port = stack.enter_context(saying(samples))
        told = replace(roster(keys, model=MODEL), recall=recall)
        gate, _ = stack.enter_context(house(port, told, engine_key=KEY))
        left = iter(names)
        doors: dict[str, Door] = {}

        def door(account: str) -> Door:
            if account not in doors:
                doors[account] = Door(gate, keys[next(left)])
                stack.callback(doors[account].close)
            return doors[account]

        yield door
