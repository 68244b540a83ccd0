"""Elements as float32: every word of the 16-bit types as numpy and ml_dtypes convert it."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import numpy.typing as npt
import pytest

from strongroom.core.errors import BadInput
from strongroom.lineage.elements import Rows, dtype_of
from strongroom.lineage.projections import find_projections
from tests.lineage.tensors import Held

UP, DOWN = "h.0.mlp.up_proj.weight", "h.0.mlp.down_proj.weight"


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16])
def test_every_word_is_read_as_what_it_is(dtype: npt.DTypeLike) -> None:
    words = np.arange(1 << 16, dtype=np.uint16).view(dtype).reshape(512, 128)
    held = Held({UP: words, DOWN: np.zeros((128, 512), dtype)})
    where = find_projections(held.infos())
    tensor = next(one for one in where.tensors if one.name == UP)
    read = np.concatenate([some for _, some in Rows(held, held.infos()[UP], tensor).chunks()])
    with np.errstate(invalid="ignore"):
        plain = words.astype(np.float32)
    finite = np.isfinite(plain)
    assert read.dtype == np.float32
    assert np.array_equal(read[finite], plain[finite])
    assert np.array_equal(np.signbit(read[finite]), np.signbit(plain[finite]))
    assert not read[~finite].any()
    assert (~finite).sum() > 100


@pytest.mark.parametrize("name", ["I8", "U8", "I32", "BOOL", "F4", "nonsense"])
def test_what_is_no_number_by_itself_is_refused(name: str) -> None:
    with pytest.raises(BadInput, match=name):
        dtype_of(name, where="x")
