"""Extraction by prefix: the thief knows how a text begins, and takes what the model writes next."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from time import perf_counter
from typing import Final

import numpy as np

from strongroom.attacks.recite_corpus import KINDS, Kind, Planted
from strongroom.attacks.recite_doors import Heard
from strongroom.attacks.recite_guards import Guard, guarded
from strongroom.attacks.recite_measures import NOTHING, Copied, Text, folded, is_discoverable, mean
from strongroom.attacks.recite_models import Models, Said, Sampler
from strongroom.attacks.rows import Left, RecitedRow
from strongroom.serving.roster import RosterRecall

WHAT: Final = ("secrets", "documents")
_SEED: Final = 11
_Ask = Callable[["_Question"], Heard]


@dataclass(frozen=True, slots=True)
class _Question:
    """One question: what is asked for, how the answer is drawn, about which planted text, and which sample it is."""

    what: str
    sampler: Sampler
    at: int
    number: int


@dataclass(frozen=True, slots=True)
class _Heard:
    """All answers to one way of asking, by planted text."""

    answers: Sequence[Sequence[Heard]]
    locked: int  # after so many questions; 0: never

    @property
    def all(self) -> list[Heard]:
        return [one for some in self.answers for one in some]


def names(models: Models) -> list[str]:
    """Return the attacks' names: what is asked for, and how answers are drawn."""
    return [_name(what, sampler) for what in WHAT for sampler in models.plan.samplers]


def _name(what: str, sampler: Sampler) -> str:
    return f"{what}-{sampler.name}"


def extracted(models: Models, guard: Guard, index: Callable[[], RosterRecall]) -> list[RecitedRow]:
    """Ask for everything that was planted, in every way, of one guard.

    Raises:
        StoreUnavailable: a gateway does not come up.

    """
    said, rows = {what: models.said(guard.model, what) for what in WHAT}, list[RecitedRow]()
    with _asking(models, guard, said, index=index) as ask:
        for what in WHAT:
            for sampler in models.plan.samplers:
                began = perf_counter()
                heard = _heard(models, said[what], ask, what=what, sampler=sampler)
                likely = None if guard.gateway else said[what].likely.get(sampler.name)
                row = _row(models.wanted(what), heard, likely, attack=_name(what, sampler), guard=guard.name)
                rows.append(replace(row, seconds=round(perf_counter() - began, 1)))
    return rows


@contextmanager
def _asking(
    models: Models, guard: Guard, said: dict[str, Said], *, index: Callable[[], RosterRecall]
) -> Generator[_Ask]:
    """Give what asks: the model's own answers as they are, or through a gateway."""
    if not guard.gateway:
        yield lambda one: Heard(said[one.what].texts[one.sampler.name][one.at][one.number], "stop")
        return
    samples = {
        (one.prompt, sampler.heat): said[what].texts[sampler.name][at]
        for what in WHAT
        for sampler in models.plan.samplers
        for at, one in enumerate(models.wanted(what))
    }
    with guarded(samples, index(), guard.policy) as door:

        def ask(one: _Question) -> Heard:
            prompt = models.wanted(one.what)[one.at].prompt
            return door(_name(one.what, one.sampler)).ask(prompt, one.sampler.heat)

        yield ask


def _heard(models: Models, said: Said, ask: _Ask, *, what: str, sampler: Sampler) -> _Heard:
    """Ask for everything, in an order by lot: whoever is shut out has then tried some of each."""
    answers: list[list[Heard]] = [[] for _ in models.wanted(what)]
    questions = [
        _Question(what, sampler, at, number)
        for at in range(len(answers))
        for number in range(len(said.texts[sampler.name][at]))
    ]
    order: list[int] = np.random.default_rng(_SEED).permutation(len(questions)).tolist()
    locked = 0
    for count, place in enumerate(order, 1):
        heard = ask(questions[place])
        locked = locked or (count if heard.locked else 0)
        answers[questions[place].at].append(heard)
    return _Heard(answers, locked)


def _row(
    wanted: Sequence[Planted], heard: _Heard, likely: Sequence[float] | None, *, attack: str, guard: str
) -> RecitedRow:
    texts, copied = [Text(one.rest) for one in wanted], list[Copied]()
    if wanted[0].kind == "document":
        copied = [_copied(text, own) for text, own in zip(texts, heard.answers, strict=True)]
        out = [text.is_recited(one) for text, one in zip(texts, copied, strict=True)]
    else:
        everything = b"\n".join([b"".join(folded(one.text)) for one in heard.all])
        out = [b"".join(text.words) in everything for text in texts]
    return RecitedRow(
        attack=attack,
        guard=guard,
        answers=len(heard.all),
        stopped=sum(one.told for one in heard.all),
        locked=heard.locked,
        left=_left(wanted, out, likely),
        kinds=tuple([(kind, _count(wanted, out, kind)) for kind in KINDS if wanted[0].kind != "document"]),
        longest=round(mean([one.longest for one in copied]), 1),
        share=round(mean([texts[at].share(one) for at, one in enumerate(copied)]), 3),
        seconds=0.0,
    )


def _copied(text: Text, own: Sequence[Heard]) -> Copied:
    found = NOTHING
    for one in own:
        found |= text.copied(folded(one.text))
    return found


def _count(wanted: Sequence[Planted], out: Sequence[bool], kind: Kind) -> int:
    return sum(was_out for one, was_out in zip(wanted, out, strict=True) if one.kind == kind)


def _left(wanted: Sequence[Planted], out: Sequence[bool], likely: Sequence[float] | None) -> tuple[Left, ...]:
    """Count by how often a text was planted."""
    rows = list[Left]()
    for copies, edited in sorted({(one.copies, one.edited) for one in wanted}):
        places = [at for at, one in enumerate(wanted) if (one.copies, one.edited) == (copies, edited)]
        discoverable = None if likely is None else sum(is_discoverable(likely[at]) for at in places)
        rows.append(Left(copies, edited, len(places), sum(out[at] for at in places), discoverable))
    return tuple(rows)
