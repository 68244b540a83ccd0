"""What `torch.save` itself writes, in both of its formats, is read as torch reads it."""

from __future__ import annotations

from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from strongroom.core.errors import BadInput  # noqa: E402 - after the skip
from strongroom.lineage.pickled import TorchFiles  # noqa: E402
from strongroom.lineage.suspects import SafetensorsFiles  # noqa: E402

BOTH = pytest.mark.parametrize("zipped", [True, False])


def saved(path: Path, value: object, *, zipped: bool) -> Path:
    torch.save(value, path, _use_new_zipfile_serialization=zipped)
    return path


def raw(tensor: Any) -> bytes:
    return tensor.detach().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()


def same(path: Path, true: dict[str, Any]) -> None:
    with TorchFiles(path) as found:
        assert list(found.infos()) == list(true)
        for name, info in found.infos().items():
            assert info.shape == tuple(true[name].shape)
            buffer = bytearray(true[name].numel() * true[name].element_size())
            found.read_into(name, 0, memoryview(buffer))
            assert bytes(buffer) == raw(true[name]) if buffer else True


@BOTH
def test_every_dtype_views_and_ties(tmp_path: Path, *, zipped: bool) -> None:
    torch.manual_seed(1)
    base = torch.randn(40, 16)
    kinds = [
        torch.float64,
        torch.float16,
        torch.bfloat16,
        torch.int64,
        torch.int32,
        torch.int16,
        torch.int8,
        torch.uint8,
    ]
    kinds += [torch.bool, torch.complex64, torch.float8_e4m3fn, torch.float8_e5m2]
    true = {str(kind): base.to(kind) for kind in kinds}
    true |= {
        "base": base,
        "tied": base,
        "rows": base[3:7],
        "row": base[39],
        "one": base[2, 3],
        "none": torch.zeros(0, 4),
    }
    path = saved(tmp_path / "x.bin", true, zipped=zipped)
    with TorchFiles(path) as found:
        assert [one.dtype for one in found.infos().values()][:3] == ["F64", "F16", "BF16"]
        assert found.infos()["torch.float8_e4m3fn"].dtype == "F8_E4M3"
    with TorchFiles(path) as found:
        for name, one in true.items():
            buffer = bytearray(one.numel() * one.element_size())
            found.read_into(name, 0, memoryview(buffer))
            if one.dim():
                assert bytes(buffer) == (raw(one) if buffer else b"")
            else:
                assert np.frombuffer(buffer, "<f4")[0] == one.item()


@BOTH
def test_modules_and_training_checkpoints(tmp_path: Path, *, zipped: bool) -> None:
    model = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.LayerNorm(3))
    optimizer = torch.optim.AdamW(model.parameters())
    model(torch.ones(2, 4)).sum().backward()
    optimizer.step()
    state = model.state_dict()
    same(saved(tmp_path / "state.pt", state, zipped=zipped), state)
    same(
        saved(tmp_path / "parameters.pt", dict(model.named_parameters()), zipped=zipped), dict(model.named_parameters())
    )
    around = {"epoch": 3, "optimizer": optimizer.state_dict(), "lr": 0.1, "model": state, "device": torch.device("cpu")}
    same(saved(tmp_path / "around.pt", around, zipped=zipped), state)
    same(saved(tmp_path / "ordered.pt", OrderedDict(state), zipped=zipped), state)


@BOTH
def test_what_torch_would_run_is_named(tmp_path: Path, *, zipped: bool) -> None:
    class Planted:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            import os

            return os.system, (f"touch {tmp_path / 'planted'}",)

    for value in ({"a": torch.ones(2), "b": Planted()}, Planted(), {"a": torch.ones(2), "model": {"x": [Planted()]}}):
        with pytest.raises(BadInput, match=r"call posix\.system: it was not run"):
            TorchFiles(saved(tmp_path / "x.pt", value, zipped=zipped))
    with pytest.raises(BadInput, match=r"Linear: it was not run"):
        TorchFiles(saved(tmp_path / "x.pt", torch.nn.Linear(2, 2), zipped=zipped))
    assert not (tmp_path / "planted").exists()


@BOTH
def test_views_that_do_not_stand_row_by_row_are_refused(tmp_path: Path, *, zipped: bool) -> None:
    base = torch.randn(4, 6)
    for view in (base.t(), base[:, :3], base[::2], base[:1].expand(4, 6)):
        with pytest.raises(BadInput, match="row by row"):
            TorchFiles(saved(tmp_path / "x.pt", {"a": view}, zipped=zipped))
    same(
        saved(tmp_path / "x.pt", {"a": base.t()[:1, :1], "b": base[:1, :3]}, zipped=zipped),
        {"a": base[:1, :1], "b": base[:1, :3]},
    )


@BOTH
def test_what_is_cut_off_is_read_as_far_as_it_goes(tmp_path: Path, *, zipped: bool) -> None:
    true = {f"t{at}": torch.full((50, 40), float(at)) for at in range(5)}
    path = saved(tmp_path / "x.pt", true, zipped=zipped)
    whole = path.read_bytes()
    counts: list[int] = []
    for cut in (300, *range(1000, 41_000, 4000)):
        path.write_bytes(whole[:-cut])
        with TorchFiles(path, partial=True) as found:
            assert set(found.infos()) | set(found.storage().missing) == set(true)
            for name in found.infos():
                buffer = bytearray(8000)
                found.read_into(name, 0, memoryview(buffer))
                assert bytes(buffer) == raw(true[name])
            counts.append(len(found.infos()))
    assert counts == sorted(counts, reverse=True)
    assert (max(counts), min(counts)) == (5 if zipped else 4, 0)


def test_a_model_is_the_same_in_all_formats(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    torch.manual_seed(2)
    state = {f"model.layers.{at}.mlp.up_proj.weight": torch.randn(8, 4).bfloat16() for at in range(3)}
    save_file(state, tmp_path / "x.safetensors")
    with (
        SafetensorsFiles(tmp_path / "x.safetensors") as one,
        TorchFiles(saved(tmp_path / "x.pt", state, zipped=True)) as two,
    ):
        assert dict(one.infos()) == dict(two.infos())
        for name in one.infos():
            left, right = bytearray(64), bytearray(64)
            one.read_into(name, 0, memoryview(left))
            two.read_into(name, 0, memoryview(right))
            assert left == right
