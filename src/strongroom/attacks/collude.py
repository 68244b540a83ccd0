"""Theft one against marked copies: recipients who put their copies together, and one who launders a copy alone.

The guard is the mark of `custody issue`. Every row says what the attack cost the thief in perplexity, who is named,
with which p, and how near the best of the innocent among 1,000 recipients came. The host is SmolLM2-135M, off its 4-bit
grid. Runs on models that it makes itself, in a folder of the caller's (rule 13).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

import numpy as np

from strongroom.attacks.bench import RECIPIENTS, Array, Bench, Leaked, Patched, copy_name
from strongroom.attacks.leaker import LEAKER, Progress, tuned_copy
from strongroom.attacks.rows import Row
from strongroom.attacks.transforms import COLLUSIONS, add_noise, colluded, merge, prune
from strongroom.core.copy_errors import CoarseGrid
from strongroom.core.errors import BadInput
from strongroom.core.secrets import Secret
from strongroom.engines.demo_model import demo_model
from strongroom.engines.gguf_weights import round_trip
from strongroom.engines.perplexity import Losses, compare, losses, token_ids
from strongroom.engines.reference_host import reference_host, reference_sibling
from strongroom.engines.texts import default_texts
from strongroom.lineage.codes import Design
from strongroom.lineage.decode import Verdict, best_p, decode
from strongroom.lineage.mark import WeightMarks
from strongroom.lineage.suspects import SafetensorsFiles

Tensors = Iterator[tuple[str, Array]]

CROWDS: Final = (2, 3, 5, 8)
TOKENS: Final = 16_384
_SEED: Final = 20_261_123
_ANOTHER: Final = Secret(bytes(range(32, 64)))  # the mark of an attacker who knows the scheme


@dataclass(frozen=True, slots=True)
class _Case:
    """An attack: its name, the host's dtype, who holds copies, and what becomes of the projections."""

    name: str
    dtype: str
    holders: tuple[int, ...]
    make: Callable[[_Lab], Tensors]


class _Lab:
    """A host with its bench, its sibling, its fine-tuned copy and its own losses, each made when it is asked for."""

    def __init__(self, work: Path, dtype: str, tokens: int, *, progress: Progress) -> None:
        self.work, self.tokens, self.progress = work, tokens, progress
        host = reference_host(work, partial(progress, "making the reference host"))
        self.bench = Bench(host.bfloat16 if dtype == "bfloat16" else host.float16, f"reference-host-{dtype}")
        self.dtype = dtype
        self.chance = np.random.default_rng(_SEED)
        self._losses: Losses | None = None

    def sibling(self) -> Bench:
        """Return another fine-tune of the same start: nobody's copy."""
        made = reference_sibling(self.work, partial(self.progress, "making its sibling"))
        return Bench(made.bfloat16 if self.dtype == "bfloat16" else made.float16, "sibling")

    def tuned(self) -> Bench:
        """Return the leaker's copy after 300 steps of full fine-tuning, made once."""
        return Bench(tuned_copy(self.work, self.bench, self.progress), "fine-tuned")

    def cost(self, leaked: Leaked) -> float | None:
        """Return what the result's perplexity is, relative to the host's, less one."""
        if not self.tokens:
            return None
        source = self.bench.source
        ids = token_ids(source, default_texts(), self.tokens)
        if self._losses is None:
            self._losses = losses(source, ids, fast=True)
        return compare(self._losses, losses(Patched(source, leaked), ids, fast=True)).ratio


def run(work: Path, *, only: Collection[str] = (), tokens: int = TOKENS, progress: Progress) -> list[Row]:
    """Run the attacks (those named in `only`, or all) and return a row for each.

    Args:
        work: a folder for models: some 3 GB, kept for the next run.
        only: names of rows.
        tokens: that the perplexity of each result is measured on; 0: not at all.
        progress: told (what, done, in all).

    Raises:
        BadInput: a name that is no row's.
        MissingExtra: torch or the demo's model is not installed.

    """
    cases = _cases()
    known = {one.name for one in cases} | {_packaged.__name__.strip("_")}
    if unknown := sorted(set(only) - known):
        raise BadInput(f"no such row: {', '.join(unknown)[:200]}; there are {', '.join(sorted(known))}", where="--only")
    chosen = [one for one in cases if not only or one.name in only]
    labs: dict[str, _Lab] = {}
    rows: list[Row] = []
    for at, case in enumerate(chosen):
        progress("attacks", at, len(chosen))
        if case.dtype not in labs:
            labs[case.dtype] = _Lab(work, case.dtype, tokens, progress=progress)
        rows.append(_row(labs[case.dtype], case))
    if not only or "packaged" in only:
        rows.append(_packaged(work))
    progress("attacks", len(chosen), len(chosen))
    return rows


def _cases() -> list[_Case]:
    """Return every attack on a host that can be marked."""
    bf16, leaker = "bfloat16", (LEAKER,)
    one: dict[str, Callable[[_Lab], Tensors]] = {
        "as-is": lambda lab: lab.bench.whole_copy(LEAKER),
        "q8_0": partial(_each, change=lambda _, values: round_trip(values, "Q8_0")),
        "q4_0": partial(_each, change=lambda _, values: round_trip(values, "Q4_0")),
        "q4_1": partial(_each, change=lambda _, values: round_trip(values, "Q4_1")),
        "prune-50": partial(_each, change=lambda _, values: prune(values, 0.5)),
        "noise-0.1": partial(_each, change=lambda lab, values: add_noise(values, 0.1, lab.chance)),
        "noise-0.3": partial(_each, change=lambda lab, values: add_noise(values, 0.3, lab.chance)),
        "merge-sibling": _merged,
        "re-marked": _remarked,
        "fine-tune-300": lambda lab: _originals(lab.tuned()),
        "fine-tune-300+q4_0+prune-50": _chain,
    }
    nobody = [
        _Case("unmarked", bf16, (), lambda lab: _originals(lab.bench)),
        _Case("sibling", bf16, (), lambda lab: _originals(lab.sibling())),
    ]
    alone = [_Case(name, bf16, leaker, make) for name, make in one.items()]
    half = [_Case(f"{name}/float16", "float16", leaker, one[name]) for name in ("as-is", "q4_0", "prune-50")]
    crowds = [
        _Case(f"{count}-{way}", bf16, tuple(range(count)), partial(_together, way=way, count=count))
        for count in CROWDS
        for way in COLLUSIONS
    ]
    return [*nobody, *alone, *half, *crowds]


# ── what thieves do ──────────────────────────────────────────────────────────────────────────────────────────────────
def _originals(bench: Bench) -> Tensors:
    return ((name, bench.original(name)) for name in bench.names)


def _each(lab: _Lab, *, change: Callable[[_Lab, Array], Array]) -> Tensors:
    return ((name, change(lab, values)) for name, values in lab.bench.whole_copy(LEAKER))


def _merged(lab: _Lab) -> Tensors:
    sibling = lab.sibling()
    return ((name, merge(values, sibling.original(name))) for name, values in lab.bench.whole_copy(LEAKER))


def _remarked(lab: _Lab) -> Tensors:
    """Put another mark of the same strength over the copy's own, by the same code under another secret."""
    copy = Leaked(lab.bench.whole_copy(LEAKER), lab.bench.dtype)
    mark = WeightMarks(_ANOTHER, lambda _: lab.bench.segments).prepare("theirs", "theirs", copy)
    for name, values in copy.arrays.items():
        mark.apply(name, 0, values.reshape(-1).view(np.uint8).data)
    return ((name, values.astype(np.float32)) for name, values in copy.arrays.items())


def _chain(lab: _Lab) -> Tensors:
    return ((name, prune(round_trip(values, "Q4_0"), 0.5)) for name, values in _originals(lab.tuned()))


def _together(lab: _Lab, *, way: str, count: int) -> Tensors:
    return colluded(lab.bench.names, lab.bench.copy, COLLUSIONS[way], copies=count, chance=lab.chance)


# ── what comes of it ─────────────────────────────────────────────────────────────────────────────────────────────────
def _row(lab: _Lab, case: _Case) -> Row:
    """Do what the thieves do, and say who is named."""
    bench = lab.bench
    leaked = Leaked(case.make(lab), bench.dtype)
    blind, original = bench.read(leaked)
    both = decode((blind, original), bench.scheme, bench.candidates, tried=RECIPIENTS)
    alone = decode((blind,), bench.scheme, bench.candidates, tried=RECIPIENTS)
    guilty = {copy_name(at) for at in case.holders}
    others = np.array([one.code for one in bench.candidates if one.copy not in guilty], np.int8)
    return Row(
        attack=case.name,
        host=bench.name,
        holders=len(case.holders),
        perplexity=lab.cost(leaked),
        named=_named(both),
        named_blind=_named(alone),
        innocent_named=len((set(_named(both)) | set(_named(alone))) - guilty),
        log10_p=both.log10_p,
        log10_p_blind=alone.log10_p,
        checkpoint_log10_p=both.checkpoint_log10_p,
        best_innocent_log10_p=min(
            best_p((blind, original), bench.scheme, others), best_p((blind,), bench.scheme, others)
        ),
    )


def _packaged(work: Path) -> Row:
    """Try to mark the packaged 4-bit weights, which must be refused."""
    with SafetensorsFiles(demo_model(work)) as files:
        try:
            WeightMarks(_ANOTHER, lambda _: Design().segments).prepare("packaged", "packaged", files)
        except CoarseGrid as refusal:
            said = f"refused: {refusal.message}"
        else:
            said = "NOT REFUSED"
    nobody: tuple[str, ...] = ()
    return Row("packaged", "packaged-4-bit", 0, None, nobody, nobody, 0, 0.0, 0.0, 0.0, 0.0, said)


def _named(verdict: Verdict) -> tuple[str, ...]:
    return tuple(one.copy for one in verdict.colluders) or ((verdict.copy,) if verdict.copy else ())
