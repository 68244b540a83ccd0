"""The models of the attack by laundering: ours, its public base, the leaked copy, what it is trained into, strangers.

All are made in a folder of the caller's, once: what is there is used again, and a training that was cut short goes on.
"""

from __future__ import annotations

import math
from functools import cached_property
from pathlib import Path
from typing import Final

from strongroom.attacks.bench import Bench
from strongroom.attacks.bodies import Array, Body, body_of
from strongroom.attacks.leaker import Progress, adapter_for_copy, continued_copy, leaked_copy, tuned_copy
from strongroom.attacks.siblings import REFERENCE, sibling
from strongroom.engines.folder import Folder, make_folder
from strongroom.engines.lora import deltas
from strongroom.engines.perplexity import Losses, compare, losses, token_ids
from strongroom.engines.reference_host import reference_base, reference_host
from strongroom.engines.texts import default_texts
from strongroom.engines.tiny_models import Tiny, tiny_model
from strongroom.ports.weights import WeightSource

TOKENS: Final = 8192
_LETTERS: Final = 5  # of a token: rather more than it has

OURS_AMONG_TINY: Final = Tiny(name="same-order-00", seed=100, text="docstrings", order=1)
# The first two read the very windows that ours read, in the same order; the next two the same text, the others another.
TINY: Final = (
    *(Tiny(name=f"same-order-{at:02d}", seed=100 + at, text="docstrings", order=1) for at in (1, 2)),
    *(Tiny(name=f"same-text-{at:02d}", seed=200 + at, text="docstrings", order=10 + at) for at in (0, 1)),
    Tiny(name="sources-00", seed=300, text="sources", order=30),
    Tiny(name="reference-00", seed=400, text="reference", order=50),
    Tiny(name="wide-00", seed=600, text="docstrings", order=1, width=96, hidden=256, layers=4),
)


class Lab:
    """Every model that the attack needs, each made when it is asked for."""

    def __init__(self, work: Path, *, tokens: int = TOKENS, progress: Progress) -> None:
        """Make and find models in `work`; perplexities are taken on `tokens` tokens, or not at all."""
        self.work, self._tokens, self._progress = work, tokens, progress

    @cached_property
    def ours(self) -> Path:
        """The folder of our checkpoint: the reference host in bfloat16."""
        return reference_host(self.work, lambda done, total: self._progress("making ours", done, total)).bfloat16

    @cached_property
    def base(self) -> Path:
        """The folder of the public base that ours descends from."""
        return reference_base(self.work)

    @cached_property
    def bench(self) -> Bench:
        """Ours, with its 1,000 recipients' marks."""
        return Bench(self.ours, "reference-host-bfloat16")

    @cached_property
    def copy(self) -> Body:
        """The copy that leaked."""
        return body_of(leaked_copy(self.work, self.bench))

    def tuned(self) -> Body:
        """Return the copy after 300 steps of full fine-tuning."""
        return body_of(tuned_copy(self.work, self.bench, self._progress))

    def continued(self) -> Body:
        """Return the copy after 300 harder steps on another text."""
        return body_of(continued_copy(self.work, self.bench, self._progress))

    def adapter(self, name: str) -> Path:
        """Return the folder of an adapter that was trained on the copy."""
        return adapter_for_copy(self.work, self.bench, name, progress=self._progress)

    def adapted(self, name: str) -> Body:
        """Return the copy with an adapter merged into it."""
        added: dict[str, Array] = dict(deltas(self.adapter(name)))
        return self.copy.changed({part: self.copy.tensors[part] + delta for part, delta in added.items()})

    @cached_property
    def partner(self) -> Body:
        """The sibling that thieves merge the copy with."""
        return body_of(self.sibling(REFERENCE))

    def sibling(self, name: str) -> Path:
        """Return the folder of somebody else's fine-tune of the base."""
        return sibling(self.work, name, self._progress)

    def tiny(self, tiny: Tiny) -> Path:
        """Return the folder of a small model trained from nothing."""
        folder = make_folder(self.work / "tiny")
        return tiny_model(folder, tiny, lambda done, total: self._progress(f"training {tiny.name}", done, total))

    # ── what it costs ───────────────────────────────────────────────────────────────────────────────────────────────
    def cost(self, model: WeightSource) -> float | None:
        """Return `model`'s perplexity relative to ours, less one; None if none is to be measured.

        Token by token where both read a text in the same tokens. Otherwise the text's whole loss counts, for each of
        our tokens.
        """
        if not self._tokens:
            return None
        text = default_texts()[: self._tokens * _LETTERS]
        theirs = token_ids(model, text)
        ours, ids = self._ours
        found = losses(model, theirs, fast=True)
        if theirs == ids:
            return compare(ours, found).ratio
        mine = math.log(ours.perplexity)
        return math.expm1(math.log(found.perplexity) * len(theirs) / len(ids) - mine)

    @cached_property
    def _ours(self) -> tuple[Losses, list[int]]:
        source = Folder(self.ours)
        ids = token_ids(source, default_texts()[: self._tokens * _LETTERS])
        return losses(source, ids, fast=True), ids
