"""Everything that a thief does to the leaked copy, by name, and what a trace should say of each."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Final

import numpy as np

from strongroom.attacks import laundering, symmetries
from strongroom.attacks.bodies import Body
from strongroom.attacks.launder_lab import Lab
from strongroom.lineage.findings import Finding, Kind

Chance = np.random.Generator
Change = Callable[[Body, Chance], Body]

_NEAR: Final = 0.2  # a parameter is right within a fifth


@dataclass(frozen=True, slots=True)
class Expected:
    """What a finding should say: one of the kinds, one of the words if there are any, the figure if there is one."""

    kinds: tuple[Kind, ...]
    words: tuple[str, ...] = ()
    figure: tuple[str, float] | None = None

    def is_said(self, finding: Finding) -> bool:
        """Say whether the finding says it."""
        if finding.kind not in self.kinds:
            return False
        said = finding.detail.lower()
        if self.words and not any(word.lower() in said for word in self.words):
            return False
        if self.figure is None:
            return True
        name, value = self.figure
        return name in finding.figures and abs(finding.figures[name] - value) <= _NEAR * abs(value)

    def __str__(self) -> str:
        """Return it in words: ``quantised(Q4_0, block 32)``."""
        figure = [f"{self.figure[0]} {self.figure[1]:g}"] if self.figure else []
        told = ", ".join([*self.words[:1], *figure])
        return "|".join(self.kinds) + (f"({told})" if told else "")


@dataclass(frozen=True, slots=True)
class Step:
    """One thing that is done: a change of a body, or, being trained, a body that takes the copy's place."""

    expected: Expected
    change: Callable[[Lab], Change] | None = None
    trained: Callable[[Lab], Body] | None = None

    def __call__(self, lab: Lab, body: Body, chance: Chance) -> Body:
        """Return what becomes of `body`; of a trained step, what became of the copy."""
        if self.trained is not None:
            return self.trained(lab)
        return body if self.change is None else self.change(lab)(body, chance)


def is_derived(findings: Collection[Finding], expected: Collection[Expected]) -> bool:
    """Say whether a derivation is right: all is said that should be, and no other kind but a cast, which storing is."""
    allowed = {kind for one in expected for kind in one.kinds} | {"cast"}
    said = all(any(one.is_said(finding) for finding in findings) for one in expected)
    return said and all(finding.kind in allowed for finding in findings)


def _done(change: Change, kind: Kind, *words: str, also: tuple[Kind, ...] = (), **figure: float) -> Step:
    """Return a step that changes whatever body is given to it."""
    told = next(iter(figure.items()), None)
    return Step(Expected((kind, *also), words, told), lambda _lab: change)


def _mixed(share: float) -> Step:
    def change(lab: Lab) -> Change:
        return partial(laundering.merged, other=lab.partner, share=share)

    return Step(Expected(("merged",), figure=("weight", share)), change)


STEPS: Final[Mapping[str, Step]] = {
    "copy": Step(Expected(("copy",))),
    "float16": _done(partial(laundering.cast_to, dtype="float16"), "cast", "float16", "f16"),
    "float32": _done(partial(laundering.cast_to, dtype="float32"), "cast", "float32", "f32"),
    "fp8": _done(laundering.fp8, "cast", "e4m3", "float8", also=("quantised",)),
    "int8": _done(laundering.int8, "quantised", "int8", "8 bit", "8-bit"),
    "q8_0": _done(partial(laundering.gguf, quantisation="Q8_0"), "quantised", "Q8_0", block=32),
    "q4_0": _done(partial(laundering.gguf, quantisation="Q4_0"), "quantised", "Q4_0", block=32),
    "q4_1": _done(partial(laundering.gguf, quantisation="Q4_1"), "quantised", "Q4_1", block=32),
    "ternary": _done(laundering.ternary, "quantised", "ternary"),
    "prune-20": _done(partial(laundering.prune, share=0.2), "pruned", share=0.2),
    "prune-50": _done(partial(laundering.prune, share=0.5), "pruned", share=0.5),
    "prune-80": _done(partial(laundering.prune, share=0.8), "pruned", share=0.8),
    "noise-0.05": _done(partial(laundering.noise, share=0.05), "noised", sigma=0.05),
    "noise-0.1": _done(partial(laundering.noise, share=0.1), "noised", sigma=0.1),
    "merge-0.5": _mixed(0.5),
    "merge-0.3": _mixed(0.3),
    "units": _done(symmetries.permute_units, "permuted", "hidden units"),
    "scales": _done(symmetries.rescale, "rescaled"),
    "heads": _done(symmetries.permute_heads, "permuted", "heads"),
    "coordinates": _done(symmetries.permute_coordinates, "rotated", "coordinates", also=("permuted",)),
    "rotation": _done(symmetries.rotate, "rotated"),
    "drop-3": _done(partial(laundering.drop_layers, count=3), "layers_changed", dropped=3),
    "repeat-4": _done(partial(laundering.repeat_layers, count=4), "layers_changed", repeated=4),
    "grow-512": _done(partial(laundering.grow_vocabulary, count=512), "vocabulary_changed", tokens=512),
    "shrink-32768": _done(
        partial(laundering.cut_vocabulary, size=32_768), "vocabulary_changed", tokens=32_768 - 49_152
    ),
    "dummies-128": _done(partial(laundering.dummy_units, count=128), "layers_changed", "hidden units", units=128),
    "fine-tune-300": Step(Expected(("fine_tuned",)), trained=Lab.tuned),
    "continued-300": Step(Expected(("fine_tuned",)), trained=Lab.continued),
    "lora-8": Step(Expected(("lora",), figure=("rank", 8)), trained=lambda lab: lab.adapted("lora-8")),
    "lora-16": Step(Expected(("lora",), figure=("rank", 16)), trained=lambda lab: lab.adapted("lora-16")),
}
