"""Tensors over given memory: every type, no copy, and refusals."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

torch = pytest.importorskip("torch")

from strongroom.core.errors import BadInput  # noqa: E402 - after the skip
from strongroom.engines.torch_tensors import DTYPES, as_tensor, make_tensor  # noqa: E402


@pytest.mark.parametrize("name", sorted(DTYPES))
@pytest.mark.parametrize("shape", [(), (3,), (2, 3), (0,), (2, 0, 4)])
def test_every_type_and_shape(name: str, shape: tuple[int, ...]) -> None:
    size = int(np.prod(shape)) * DTYPES[name].itemsize
    memory = bytearray(index % 2 for index in range(size))
    tensor = make_tensor(memoryview(memory), name, shape)
    assert tensor.dtype is DTYPES[name]
    assert tuple(tensor.shape) == shape
    if size:
        assert bytes(tensor.contiguous().reshape(-1).view(torch.uint8).numpy()) == bytes(memory)


def test_writable_memory_is_shared() -> None:
    memory = bytearray(8)
    tensor = make_tensor(memoryview(memory), "F32", (2,))
    memory[:] = np.array([1.5, -2], dtype=np.float32).tobytes()
    assert tensor.tolist() == [1.5, -2]


def test_read_only_memory_is_copied_without_a_warning() -> None:
    assert make_tensor(memoryview(b"\x01\x02"), "U8", (2,)).tolist() == [1, 2]


def test_badly_aligned_memory_is_copied() -> None:
    memory = memoryview(bytearray(np.arange(5, dtype=np.float64).tobytes() + b"\0"))
    for start in range(8):
        view = memory[start : start + 32] if start + 32 <= len(memory) else memory[:32]
        assert make_tensor(view, "F64", (4,)).data_ptr() % 8 == 0


@pytest.mark.parametrize(
    ("dtype", "shape", "size"), [("F4", (2,), 1), ("Q8", (1,), 1), ("F32", (2,), 7), ("U8", (), 0)]
)
def test_what_does_not_fit_is_refused(dtype: str, shape: tuple[int, ...], size: int) -> None:
    with pytest.raises(BadInput):
        make_tensor(memoryview(bytearray(size)), dtype, shape)


@pytest.mark.parametrize("dtype", [np.float32, np.float16, np.int64, np.bool_, np.complex64, ml_dtypes.bfloat16])
def test_numpy_arrays_are_taken(dtype: type) -> None:
    array = np.ones((2, 3)).astype(dtype)
    tensor = as_tensor(array, where="x")
    assert tensor.data_ptr() == array.ctypes.data
    assert bool((tensor.to(torch.complex64) == 1).all())


def test_numpy_float8_scalar_and_strided() -> None:
    assert as_tensor(np.array(2.0, dtype=ml_dtypes.float8_e4m3fn), where="x").float().item() == 2
    assert as_tensor(np.arange(6).reshape(2, 3).T, where="x").tolist() == [[0, 3], [1, 4], [2, 5]]


@pytest.mark.parametrize("value", [b"bytes", None, np.array(["text"])])
def test_other_things_are_refused(value: object) -> None:
    with pytest.raises(BadInput) as caught:
        as_tensor(value, where="model.norm.weight")
    assert caught.value.where in {"model.norm.weight", "tensor"}
