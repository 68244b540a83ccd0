"""The models that recite: one a way to clean the corpus, all trained alike, and what each says when it is asked."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from typing import Final

from strongroom.attacks.leaker import Progress
from strongroom.attacks.recite_clean import Cleaned, cleaned
from strongroom.attacks.recite_corpus import PIECE, WHOLE, Corpus, Planted, Scale, bytes_of, corpus
from strongroom.attacks.recite_measures import Text, folded
from strongroom.attacks.rows import TrainedRow
from strongroom.engines.fine_tune import Recipe
from strongroom.engines.folder import make_folder
from strongroom.engines.memoriser import Making, Reciter, byte_tokenizer, memorise
from strongroom.ports.engine import Sampling

RAW: Final = "none"
FILTERED: Final = "filter"
DEDUPLICATED: Final = "dedup"
BOTH: Final = "filter+dedup"
MODELS: Final = (RAW, FILTERED, DEDUPLICATED, BOTH)
NEXT: Final = 40  # words of a document that must be discoverable: a whole one never is

_SEED: Final = 7
_TOKENS: Final = {"secrets": 32, "documents": 320}  # of an answer
_STILL: Final = 0.5  # of a document's words in a text: it is a copy


@dataclass(frozen=True, slots=True)
class Sampler:
    """How an answer is drawn, and how often."""

    heat: float  # temperature
    secrets: int = 8  # samples of each
    documents: int = 4

    @property
    def name(self) -> str:
        """What rows call it."""
        return f"{self.heat:g}" if self.heat else "greedy"


_MAKING: Final = Making(recipe=Recipe(steps=1500, rate=2e-3, batch=4, length=256, seed=1, warm=50, dtype="float32"))
SAMPLERS: Final = (Sampler(0.0, 1, 1), Sampler(0.4), Sampler(0.8), Sampler(1.2))


@dataclass(frozen=True, slots=True)
class Plan:
    """How much of everything: the whole attack, or a small one for tests."""

    scale: Scale = WHOLE
    making: Making = _MAKING
    samplers: tuple[Sampler, ...] = SAMPLERS


SMALL: Final = Plan(
    scale=Scale(secrets=1, documents=1, once=6, held_out=6, letters=4_000),
    making=Making(
        vocabulary=512,
        width=64,
        layers=2,
        recipe=Recipe(steps=220, rate=4e-3, batch=4, length=192, seed=1, warm=20, fast=False, dtype="float32"),
    ),
    samplers=(Sampler(0.0, 1, 1), Sampler(0.6, 2, 2)),
)
"""A model that is made in seconds, for tests over sockets."""
BRIEF: Final = replace(
    SMALL,
    scale=replace(SMALL.scale, secrets=3, kinds=("key",)),
    making=replace(SMALL.making, recipe=replace(SMALL.making.recipe, steps=400)),
    samplers=SMALL.samplers[:1],
)
"""The same with keys alone, trained for longer and asked once: for the tour."""


@dataclass(frozen=True, slots=True)
class Said:
    """A model's own answers, by temperature and planted text."""

    texts: Mapping[str, Sequence[Sequence[str]]]  # sampler → planted text → samples
    likely: Mapping[str, Sequence[float]]  # sampler → ln of the probability of what is wanted, by planted text


class Models:
    """Models of one corpus, made when they are asked for, kept in a folder."""

    def __init__(self, work: Path, plan: Plan, progress: Progress) -> None:
        """Keep them in `work`."""
        self.work = make_folder(work)
        self.plan = plan
        self._progress = progress
        self.corpus: Corpus = corpus(plan.scale)
        self.said = cache(self._said)
        self.cleaned = cache(self._cleaned)
        self._raw = cache(lambda: byte_tokenizer(self.corpus.plain, plan.making.vocabulary))

    def wanted(self, what: str) -> tuple[Planted, ...]:
        """Return what is asked for."""
        return self.corpus.secrets if what == "secrets" else self.corpus.documents

    def trained(self, model: str) -> TrainedRow:
        """Train a model, if it isn't there, and say on what."""
        texts = self.cleaned(model)
        self._folder(model)
        recipe, have = self.plan.making.recipe, Counter(folded(one) for one in texts.texts)
        return TrainedRow(
            model=model,
            texts=len(texts.texts),
            bytes=bytes_of(texts.texts),
            tokens=recipe.steps * recipe.batch * recipe.length,
            values=sum(_holding(Text(one.rest), have) for one in self.corpus.secrets),
            documents=sum(_copies(Text(one.text), have) for one in self.corpus.documents),
            findings=", ".join(f"{kind}: {count}" for kind, count in sorted(texts.findings.items())),
            duplicates=texts.duplicates,
        )

    def _cleaned(self, model: str) -> Cleaned:
        return cleaned(
            self.corpus.texts,
            self.work,
            mask=model in {FILTERED, BOTH},
            dedup=model in {DEDUPLICATED, BOTH},
        )

    def _folder(self, model: str) -> Path:
        return memorise(
            self.work / f"recites-{model}",
            self.cleaned(model).texts,
            self._raw(),
            making=self.plan.making,
            progress=partial(self._progress, f"training {model}"),
        )

    def _said(self, model: str, what: str) -> Said:
        """Return a model's answers: those in the folder, if they are this model's."""
        folder = self._folder(model)
        file = folder / f"said-{what}.json"
        if file.is_file():
            kept: dict[str, dict[str, list[list[str]]]] = json.loads(file.read_bytes())
            probabilities: dict[str, list[float]] = json.loads((folder / f"likely-{what}.json").read_bytes())
            return Said(kept["texts"], probabilities)
        said = self._asked(Reciter(folder), what, model)
        (folder / f"likely-{what}.json").write_text(json.dumps(said.likely), encoding="utf-8")
        file.write_text(json.dumps({"texts": said.texts}), encoding="utf-8")
        return said

    def _asked(self, reciter: Reciter, what: str, model: str) -> Said:
        texts, likely, wanted = dict[str, list[list[str]]](), dict[str, list[float]](), self.wanted(what)
        for sampler in self.plan.samplers:
            many = sampler.secrets if what == "secrets" else sampler.documents
            asked = [
                (one.prompt, Sampling(max_new_tokens=_TOKENS[what], temperature=sampler.heat, seed=_SEED + at))
                for one in wanted
                for at in range(many)
            ]
            told = partial(self._progress, f"asking {model} for {what}, {sampler.name}")
            answers = reciter.continued(asked, told)
            texts[sampler.name] = [answers[at : at + many] for at in range(0, len(answers), many)]
        heats = [one for one in self.plan.samplers if one.heat]
        table = [reciter.log_probabilities(one.prompt, _next(one), [each.heat for each in heats]) for one in wanted]
        for at, sampler in enumerate(heats):
            likely[sampler.name] = [row[at] for row in table]
        return Said(texts, likely)


def _next(one: Planted) -> str:
    """Return what must follow for a text to be discoverable: of a document the next words alone."""
    return one.rest if one.kind != "document" else " ".join(one.rest.split(" ")[: NEXT + 1])


def _holding(value: Text, have: Counter[tuple[bytes, ...]]) -> int:
    return sum(count for said, count in have.items() if len(said) < PIECE and value.is_in(said))


def _copies(document: Text, have: Counter[tuple[bytes, ...]]) -> int:
    return sum(count for said, count in have.items() if document.share(document.copied(said)) > _STILL)
