"""What weights truly are is told from a sample, whatever they are kept in."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from strongroom.lineage.dtypes import true_dtypes
from strongroom.lineage.projections import find_projections
from tests.lineage.tensors import DTYPES, Held, gaussian

F32 = npt.NDArray[np.float32]


def made(true: str, kept: str, *, zeros: float = 0.0, strangers: float = 0.0) -> dict[str, str]:
    """Return what weights of the dtype `true`, kept in `kept`, are found to be."""
    generator = np.random.default_rng(1)

    def to(some: F32) -> npt.NDArray[np.generic]:
        narrow = some.astype(DTYPES[true]).astype(DTYPES[kept])
        narrow = np.where(generator.random(some.shape) < strangers, some.astype(DTYPES[kept]), narrow)
        return np.where(generator.random(some.shape) < zeros, DTYPES[kept].type(0), narrow)

    held = Held({name: to(one.astype(np.float32)) for name, one in
                 gaussian(generator, layers=2, hidden=96, width=80, dtype="F32").items()})  # fmt: skip
    return true_dtypes(held, find_projections(held.infos()))


@pytest.mark.parametrize(
    ("true", "kept"),
    [("BF16", "BF16"), ("F16", "F16"), ("F32", "F32"), ("BF16", "F32"), ("F16", "F32"), ("BF16", "F16")],
)
@pytest.mark.parametrize("zeros", [0.0, 0.9])
@pytest.mark.parametrize("strangers", [0.0, 0.3])
def test_every_tensors_true_dtype_is_found(true: str, kept: str, zeros: float, strangers: float) -> None:
    found = made(true, kept, zeros=zeros, strangers=strangers)
    assert len(found) == 6
    assert set(found.values()) == {true}


def test_nothing_but_zeros_or_infinities_is_what_it_is_kept_in() -> None:
    for value in (0.0, np.inf, np.nan):
        held = Held({name: np.full_like(one, value) for name, one in
                     gaussian(np.random.default_rng(1), layers=1, hidden=8, width=8, dtype="F32").items()})  # fmt: skip
        assert set(true_dtypes(held, find_projections(held.infos())).values()) == {"F32"}


def test_bfloat16_out_of_float16s_range_is_bfloat16() -> None:
    held = Held({name: (one.astype(np.float32) * 1e9).astype(DTYPES["BF16"]).astype(np.float32) for name, one in
                 gaussian(np.random.default_rng(1), layers=1, hidden=8, width=8, dtype="F32").items()})  # fmt: skip
    assert set(true_dtypes(held, find_projections(held.infos())).values()) == {"BF16"}
