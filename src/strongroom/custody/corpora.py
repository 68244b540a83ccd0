"""What checkpoints were trained on: signed statements, and the class that follows from them.

A checkpoint is of the strictest class of its corpora and of what it was made from. What a policy demands for a class,
the desk demands (docs/access.md). A statement is about a NAME:TAG and stays when that is sealed anew, so that nobody
gets rid of a class by sealing once more.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Final, Literal, get_args

import msgspec
from msgspec.structs import replace

from strongroom.access.deeds import Deeds, Series
from strongroom.access.desk import Desk, Matter
from strongroom.access.identity import Identity
from strongroom.access.policy import Question
from strongroom.core.canonical import Record, decode, digest, encode
from strongroom.core.errors import BadInput
from strongroom.core.ids import CheckpointName

CORPORA: Final = Series("custody.entered", "privacy.corpus")

Class = Literal["public", "internal", "confidential", "restricted"]
CLASSES: Final[tuple[Class, ...]] = get_args(Class)
"""From the mildest to the strictest."""
Consent = Literal["none", "not-needed", "public", "contract", "obtained"]
CONSENTS: Final[tuple[Consent, ...]] = get_args(Consent)
_UNSEEN: Final[Class] = "confidential"  # nobody has looked into it, so it is of no milder class
_Short = Annotated[str, msgspec.Meta(max_length=200)]
_Findings = Annotated[dict[_Short, int], msgspec.Meta(max_length=256)]
_Digest = Annotated[str, msgspec.Meta(pattern="^([0-9a-f]{64})?$")]


class Corpus(Record, frozen=True, kw_only=True):
    """A corpus that a checkpoint was trained on."""

    name: Annotated[str, msgspec.Meta(min_length=1, max_length=64)]
    class_: Class = msgspec.field(name="class")
    licence: _Short  # SPDX's identifier, or words
    consent: Consent  # of the people whose data is in it
    jurisdictions: tuple[_Short, ...]  # whose law it was collected under: ISO 3166 codes
    report: _Digest = ""  # SHA-256 of the filter's report; empty: it was not filtered
    findings: _Findings = msgspec.field(default_factory=dict[str, int])  # of that report: how many of each kind
    documents: int = 0
    index: _Short = ""  # the id of its window index
    corpus: _Digest = ""  # of that index: the digest over its texts


class Training(Record, frozen=True, kw_only=True):
    """What a checkpoint was trained on, and made from."""

    format: Literal["strongroom/training@1"] = "strongroom/training@1"
    checkpoint: str  # NAME:TAG
    version: int  # that it was said of
    corpora: tuple[Corpus, ...] = ()
    parents: tuple[str, ...] = ()  # NAME:TAG of what it was fine-tuned or merged from


@dataclass(frozen=True, slots=True)
class Classification:
    """The class of a checkpoint."""

    class_: Class | Literal[""]  # empty: nothing was said of it
    because: str  # the corpus or the checkpoint whose class it is
    complete: bool  # whether something was said of all that it was made from


NOTHING: Final = Classification("", "", complete=False)


class Corpora:
    """The statements of one home."""

    def __init__(self, deeds: Deeds, desk: Desk) -> None:
        """Keep everything as `deeds`; `desk` is asked where a class gets milder."""
        self._deeds = deeds
        self._desk = desk

    def find(self, title: CheckpointName) -> Training | None:
        """Return what was said of a checkpoint last.

        Raises:
            RecordAltered: the statement that the ledger names is gone or another.

        """
        return self._deeds.read(_subject(title), Training)

    def classification(self, title: CheckpointName) -> Classification:
        """Return the class of a checkpoint: the strictest of its corpora's and of all that it was made from.

        Raises:
            RecordAltered: a statement that the ledger names is gone or another, so that nobody knows.

        """
        said = self.find(title)
        return NOTHING if said is None else self._of(title, said)

    def _of(self, title: CheckpointName, training: Training) -> Classification:
        """Return the class that `training` makes of `title`: each checkpoint underneath is looked at once."""
        found, seen = list[Classification](), {title}
        waiting = deque([(training, tuple[CheckpointName, ...]())])
        while waiting:
            said, way = waiting.popleft()
            found += [Classification(one.class_, _because(one, way), complete=True) for one in said.corpora]
            if not (said.corpora or said.parents):
                found.append(NOTHING)
            made_from = [one for one in map(CheckpointName.parse, said.parents) if one not in seen]
            seen.update(made_from)
            for parent in made_from:
                below = self.find(parent)
                if below is None:
                    found.append(NOTHING)
                else:
                    waiting.append((below, (*way, parent)))
        return _strictest(found)

    def add(
        self, who: Identity, title: CheckpointName, version: int, *, corpus: Corpus | None, parents: Sequence[str]
    ) -> Classification:
        """Say that a checkpoint was trained on `corpus` as well, or made from `parents`; return its class.

        Raises:
            NotPermitted: `who` may not.
            Busy: somebody else said something of it meanwhile.
            BadInput: a corpus without a report is said to be of a mild class, or the checkpoint of its own making; or
                something is longer than it may be.

        """
        after = self._deeds.place(_subject(title))
        said = self.find(title) or Training(checkpoint=str(title), version=version)
        if corpus is not None:
            _check(corpus)
            said = replace(said, corpora=(*(one for one in said.corpora if one.name != corpus.name), corpus))
        made_from = {*said.parents, *(str(CheckpointName.parse(one)) for one in parents)}
        if str(title) in made_from:
            raise BadInput("a checkpoint is not made from itself", where=str(title))
        return self._enter(who, replace(said, version=version, parents=tuple(sorted(made_from))), after=after)

    def remove(self, who: Identity, title: CheckpointName, *, names: Sequence[str]) -> Classification:
        """Take back corpora, or checkpoints it was made from, that were named by mistake; return its class.

        Raises:
            ApprovalNeeded: its class gets milder, so a second person must approve.
            BadInput: one of `names` was never said.

        """
        after = self._deeds.place(_subject(title))
        said = self.find(title) or Training(checkpoint=str(title), version=0)
        known = {one.name for one in said.corpora} | set(said.parents)
        if unknown := sorted(set(names) - known):
            raise BadInput(
                f"nothing of that name was said of it; there is: {', '.join(sorted(known))}", where=unknown[0]
            )
        corpora = tuple(one for one in said.corpora if one.name not in names)
        parents = tuple(one for one in said.parents if one not in names)
        return self._enter(who, replace(said, corpora=corpora, parents=parents), after=after)

    def _enter(self, who: Identity, training: Training, *, after: int) -> Classification:
        title = CheckpointName.parse(training.checkpoint)
        before, now = self.classification(title), self._of(title, training)
        decode(encode(training), Training, where=str(title))  # what can't be read again would shut it for good
        why = f"{title} is {now.class_ or 'of no class'}"
        if _rank(now) < _rank(before):
            why = f"{title} is no longer {before.class_}, but {now.class_ or 'of no class'}"
            self._desk.demand(who, Question("custody.declassify", purpose=why), Matter(digest=digest(training)))
        self._deeds.enter(who, _subject(title), training, why=why, after=after)
        return now


def _because(one: Corpus, way: Sequence[CheckpointName]) -> str:
    because = f"corpus {one.name}"
    for parent in reversed(way):
        because = f"{parent} ({because})"
    return because


def _strictest(found: Sequence[Classification]) -> Classification:
    if not found:
        return NOTHING
    strictest = max(found, key=_rank)
    return Classification(strictest.class_, strictest.because, complete=all(one.complete for one in found))


def _rank(one: Classification) -> int:
    return CLASSES.index(one.class_) if one.class_ else -1


def _check(corpus: Corpus) -> None:
    """Return if its class is not milder than what is known of it.

    Raises:
        BadInput: it is.

    """
    if not corpus.report and CLASSES.index(corpus.class_) < CLASSES.index(_UNSEEN):
        remedy = "Filter it (strongroom privacy filter) and give --report, or say confidential or restricted."
        raise BadInput(f"a corpus that nobody filtered is {_UNSEEN} at least", where=corpus.name, remedy=remedy)


def _subject(title: CheckpointName) -> str:
    return f"training:{title}"
