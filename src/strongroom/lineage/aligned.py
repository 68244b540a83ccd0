"""A suspect as if it had never been reshaped: its own weights, under the checkpoint's names and in its shapes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import numpy as np
import numpy.typing as npt

from strongroom.core.errors import BadInput
from strongroom.lineage.align import READERS, WRITERS, Alignment, LayerAlignment, as_lines, in_place
from strongroom.lineage.anatomy import gains
from strongroom.lineage.basis import folded
from strongroom.lineage.model import Model
from strongroom.ports.marks import TensorInfo

F32 = npt.NDArray[np.float32]

_ITEM: Final = 4
_KEPT: Final = 2  # tensors


class Aligned:
    """The suspect's weights in the checkpoint's places (`ports.marks.Tensors`): lines that it lacks are zero."""

    def __init__(self, source: Model, suspect: Model, alignment: Alignment) -> None:
        """Look at `suspect` through its `alignment` with `source`."""
        self._source, self._suspect, self._alignment = source, suspect, alignment
        self._made: dict[str, F32] = {}
        self._plan: dict[str, tuple[LayerAlignment, str]] = {}
        self._plain: dict[str, str] = {}  # tensors that are as they are in the file, by the checkpoint's names
        self._infos: dict[str, TensorInfo] = {}
        for layer in alignment.layers:
            self._add_layer(layer)
        self._add_embedding()

    def infos(self) -> Mapping[str, TensorInfo]:
        """Return the tensors that the suspect has, by the checkpoint's names: F32 where they had to be computed."""
        return self._infos

    def read_into(self, name: str, first: int, buffer: memoryview) -> None:
        """Fill `buffer` with the elements of `name` from element `first` on.

        Raises:
            BadInput: there is no such tensor, or the suspect's file became shorter.

        """
        if name in self._plain:
            self._suspect.weights.read_into(self._plain[name], first, buffer)
            return
        if name not in self._plan:
            raise BadInput("the suspect has no such tensor", where=name[:200])
        if name not in self._made:
            while len(self._made) >= _KEPT:
                self._made.pop(next(iter(self._made)))
            self._made[name] = self._make(*self._plan[name])
        raw = self._made[name].reshape(-1).view(np.uint8)
        buffer.cast("B")[:] = raw[first * _ITEM : first * _ITEM + buffer.nbytes].data

    def _add_layer(self, layer: LayerAlignment) -> None:
        ours, theirs = self._source.weights.infos(), self._suspect.weights.infos()
        for part in (*READERS, *WRITERS):
            name, there = layer.source[part], layer.suspect[part]
            if name is None or there is None or part not in layer.lines:
                continue
            if self._is_plain(layer, part) and ours[name].shape == theirs[there].shape:
                self._plain[name], self._infos[name] = there, theirs[there]
            else:
                self._plan[name], self._infos[name] = (layer, part), TensorInfo("F32", ours[name].shape)

    def _is_plain(self, layer: LayerAlignment, part: str) -> bool:
        basis = self._alignment.basis
        if basis.turn is not None or not layer.lines[part].untouched:
            return False
        if part in WRITERS:
            return basis.scale == 1.0
        norm = "mlp_norm" if part in {"gate", "up"} else "attention_norm"
        gain = gains(self._suspect.weights, layer.suspect[norm], offsets=self._suspect.body.offsets)
        original = gains(self._source.weights, layer.source[norm], offsets=self._source.body.offsets)
        return gain is None or not folded(gain, original)

    def _add_embedding(self) -> None:
        """Take the embedding where its shape and basis are the checkpoint's."""
        ours, theirs = self._source.body.embedding, self._suspect.body.embedding
        basis = self._alignment.basis
        if ours is None or theirs is None or basis.kind != "same" or basis.scale != 1.0:
            return
        info = self._suspect.weights.infos()[theirs]
        if info.shape == self._source.weights.infos()[ours].shape:
            self._plain[ours], self._infos[ours] = theirs, info

    def _make(self, layer: LayerAlignment, part: str) -> F32:
        """Return a part of a layer, moved, scaled and turned back."""
        values = in_place(
            self._suspect, layer.suspect, part, basis=self._alignment.basis, like=(self._source, layer.source)
        )
        lines = as_lines(values, part)
        if lines is None:
            raise BadInput("the suspect has no such tensor", where=part)
        how = layer.lines[part]
        if how.moved is not None:
            lines = np.where((how.moved >= 0)[:, None], lines[how.moved], np.float32(0))
        if how.scale is not None:
            lines = lines / how.scale[:, None]
        made = as_lines(lines, part)
        return np.ascontiguousarray(lines if made is None else made, dtype=np.float32)
