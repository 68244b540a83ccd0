"""Traces a suspect as ``lineage trace`` does, against a registry of the lab's models instead of a home's."""

from __future__ import annotations

import time
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Final

from strongroom.attacks.bench import RECIPIENTS, Bench, Leaked
from strongroom.attacks.launder_lab import OURS_AMONG_TINY, Lab
from strongroom.attacks.siblings import REFERENCE
from strongroom.attacks.suspects import Against
from strongroom.engines.gguf_weights import GgufTensors
from strongroom.lineage.adapters import OpenSuspect, merged
from strongroom.lineage.bank import null_bank
from strongroom.lineage.decode import decode
from strongroom.lineage.model import Model, model_of
from strongroom.lineage.signature import sign
from strongroom.lineage.suspects import SafetensorsFiles
from strongroom.lineage.trace import Base, Decoded, Known, Registry, trace
from strongroom.lineage.traced import RecipientFound, Trace, conclude
from strongroom.ports.marks import TensorInfo, Tensors
from strongroom.ports.suspects import Suspect

OURS: Final = "ours:1"
PARTNER: Final = "partner:1"
BASE: Final = "public-base"


class Tracer:
    """Registries of the lab's models, and the reader of our marks."""

    def __init__(self, lab: Lab) -> None:
        """Trace against models of `lab`; a registry is made when it is first asked for."""
        self._lab = lab
        self._registries: dict[Against, Registry] = {}

    def __call__(self, path: Path, against: Against) -> tuple[Trace, float]:
        """Return what the file or folder at `path` was made from, and the seconds that it took to say so.

        Raises:
            BadInput: it is no suspect that can be read.

        """
        registry = self._registry(against)
        copies = None if against == "tiny" else _Copies(self._lab.bench)
        began = time.monotonic()
        with opened(path) as suspect:
            found = conclude(trace(suspect, registry, copies=copies))
        return found, time.monotonic() - began

    def _registry(self, against: Against) -> Registry:
        """Return the models that suspects are compared with."""
        if against not in self._registries:
            lab = self._lab
            if against == "tiny":
                checkpoints, bases = {OURS: lab.tiny(OURS_AMONG_TINY)}, list[Base]()
            else:
                checkpoints, bases = {OURS: lab.ours}, [Base(BASE, partial(_model, lab.base))]
            if against == "pair":
                checkpoints[PARTNER] = lab.sibling(REFERENCE)
            known = [_known(name, folder) for name, folder in checkpoints.items()]
            self._registries[against] = Registry(known, bases, null_bank())
        return self._registries[against]


class _Copies:
    """The marks of the bench's 1,000 recipients (`lineage.trace.Copies`)."""

    def __init__(self, bench: Bench) -> None:
        self._bench = bench

    def decode(self, known: Known, source: Model, aligned: Tensors) -> Decoded | None:
        """Return whose copy of ours the aligned suspect is; of other checkpoints, no copy was ever issued."""
        del source
        if known.name != OURS:
            return None
        bench = self._bench
        verdict = decode(bench.read(aligned), bench.scheme, bench.candidates, tried=RECIPIENTS)
        named = next((at for at, one in enumerate(bench.candidates) if one.copy == verdict.copy), None)
        copy = None if named is None else _Copy(bench.files, Leaked(bench.whole_copy(named), bench.dtype))
        return Decoded(RecipientFound.of(verdict), copy)


class _Copy:
    """A whole copy: our model with a copy's projections in it (`ports.marks.Tensors`)."""

    def __init__(self, whole: Tensors, marked: Leaked) -> None:
        self._whole, self._marked = whole, marked

    def infos(self) -> Mapping[str, TensorInfo]:
        return self._whole.infos()

    def read_into(self, name: str, first: int, buffer: memoryview) -> None:
        (self._marked if name in self._marked.arrays else self._whole).read_into(name, first, buffer)


@contextmanager
def opened(path: Path) -> Generator[Suspect]:
    """Open a suspect of the attack: a folder or file of safetensors, or a GGUF file; cut off or whole."""
    found: OpenSuspect = (
        GgufTensors(path, partial=True) if path.suffix == ".gguf" else SafetensorsFiles(path, partial=True)
    )
    try:
        yield merged(found)
    finally:
        found.close()


@contextmanager
def _model(folder: Path) -> Generator[Model]:
    with SafetensorsFiles(folder) as files:
        yield model_of(files, files.tokens())


def _known(name: str, folder: Path) -> Known:
    with _model(folder) as model:
        return Known(name, sign(model), partial(_model, folder))
