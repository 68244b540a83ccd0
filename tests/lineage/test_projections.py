"""Which tensors are MLP projections: the names of real architectures, and what must never be taken for one."""

from __future__ import annotations

import random  # noqa: TID251 - shuffles names
from collections.abc import Mapping

import numpy as np
import pytest

from strongroom.core.copy_errors import NothingToMark
from strongroom.lineage.projections import find_projections
from strongroom.ports.marks import TensorInfo

D, H = 8, 24  # residual and hidden width


def infos(shapes: Mapping[str, tuple[int, ...]], dtype: str = "BF16") -> dict[str, TensorInfo]:
    return {name: TensorInfo(dtype=dtype, shape=shape) for name, shape in shapes.items()}


ATTENTION = {
    "model.layers.0.self_attn.q_proj.weight": (D, D),
    "model.layers.0.self_attn.o_proj.weight": (D, D),
    "transformer.h.0.attn.c_attn.weight": (D, 3 * D),
    "transformer.h.0.attn.c_proj.weight": (D, D),
    "transformer.h.0.attn.c_fc.weight": (D, H),
    "model.layers.0.attention.w2.weight": (D, H),
    "model.layers.0.attention.w1.weight": (H, D),
    "model.layers.0.self_attn.fc1.weight": (H, D),
    "model.layers.0.self_attn.fc2.weight": (D, H),
    "gpt_neox.layers.0.attention.dense.weight": (D, D),
    "model.layers.0.mlp.gate.weight": (4, D),
    "model.embed_tokens.weight": (100, D),
    "model.layers.0.mlp.up_proj.bias": (H,),
    "model.layers.0.mlp.up_proj.lora_A.weight": (H, 2),
    "other.w1.weight": (H, D),
    "other.w2.weight": (D, H),
}
TABLE: dict[str, dict[str, tuple[tuple[int, int], int]]] = {
    "llama": {
        "model.layers.0.mlp.gate_proj.weight": ((H, D), 0),
        "model.layers.0.mlp.up_proj.weight": ((H, D), 0),
        "model.layers.0.mlp.down_proj.weight": ((D, H), 1),
    },
    "mixtral": {
        "model.layers.0.block_sparse_moe.experts.0.w1.weight": ((H, D), 0),
        "model.layers.0.block_sparse_moe.experts.0.w3.weight": ((H, D), 0),
        "model.layers.0.block_sparse_moe.experts.0.w2.weight": ((D, H), 1),
    },
    "qwen moe": {
        "model.layers.0.mlp.experts.7.gate_proj.weight": ((H, D), 0),
        "model.layers.0.mlp.experts.7.up_proj.weight": ((H, D), 0),
        "model.layers.0.mlp.experts.7.down_proj.weight": ((D, H), 1),
    },
    "phi-3": {
        "model.layers.0.mlp.gate_up_proj.weight": ((2 * H, D), 0),
        "model.layers.0.mlp.down_proj.weight": ((D, H), 1),
    },
    "gpt-2": {
        "transformer.h.0.mlp.c_fc.weight": ((D, H), 1),
        "transformer.h.0.mlp.c_proj.weight": ((H, D), 0),
    },
    "gpt-2 without a head": {"h.0.mlp.c_fc.weight": ((D, H), 1), "h.0.mlp.c_proj.weight": ((H, D), 0)},
    "starcoder": {
        "transformer.h.0.mlp.c_fc.weight": ((H, D), 0),
        "transformer.h.0.mlp.c_proj.weight": ((D, H), 1),
    },
    "square conv1d": {"h.0.mlp.c_fc.weight": ((D, D), 1), "h.0.mlp.c_proj.weight": ((D, D), 0)},
    "neox": {
        "gpt_neox.layers.0.mlp.dense_h_to_4h.weight": ((H, D), 0),
        "gpt_neox.layers.0.mlp.dense_4h_to_h.weight": ((D, H), 1),
    },
    "chatglm": {
        "transformer.encoder.layers.0.mlp.dense_h_to_4h.weight": ((2 * H, D), 0),
        "transformer.encoder.layers.0.mlp.dense_4h_to_h.weight": ((D, H), 1),
    },
    "opt": {"model.decoder.layers.0.fc1.weight": ((H, D), 0), "model.decoder.layers.0.fc2.weight": ((D, H), 1)},
    "gpt-j": {"transformer.h.0.mlp.fc_in.weight": ((H, D), 0), "transformer.h.0.mlp.fc_out.weight": ((D, H), 1)},
    "internlm2": {
        "model.layers.0.feed_forward.w1.weight": ((H, D), 0),
        "model.layers.0.feed_forward.w2.weight": ((D, H), 1),
        "model.layers.0.feed_forward.w3.weight": ((H, D), 0),
    },
}


@pytest.mark.parametrize("family", TABLE)
def test_each_family_is_read_with_its_units_on_the_right_axis(family: str) -> None:
    shapes = {name: shape for name, (shape, _) in TABLE[family].items()}
    found = find_projections(infos(ATTENTION | shapes))
    assert {one.name: (one.shape, one.axis) for one in found.tensors} == TABLE[family]
    assert found.units == (D if family == "square conv1d" else H)
    assert all(one.units == found.units and one.first_unit == 0 for one in found.tensors)
    assert found.weights == sum(rows * columns for rows, columns in shapes.values())


def test_attention_alone_is_nothing_to_mark() -> None:
    with pytest.raises(NothingToMark, match="no MLP projections among its 16 tensors"):
        find_projections(infos(ATTENTION))


def test_blocks_are_numbered_by_number_whatever_the_order_of_the_file() -> None:
    shapes = {
        f"model.layers.{layer}.mlp.{name}.weight": (H + layer, D) if name != "down_proj" else (D, H + layer)
        for layer in range(12)
        for name in ("up_proj", "gate_proj", "down_proj")
    }
    found = find_projections(infos(shapes))
    assert [one.name.split(".")[2] for one in found.tensors[::3]] == [str(layer) for layer in range(12)]
    starts = np.cumsum([0, *(H + layer for layer in range(12))])
    assert [one.first_unit for one in found.tensors[::3]] == starts[:-1].tolist()
    assert found.units == starts[-1]
    names = list(shapes)
    random.Random(1).shuffle(names)  # noqa: S311 - an order, no secret
    assert find_projections(infos({name: shapes[name] for name in names})) == found


def test_both_rows_of_a_fused_unit_count_for_it() -> None:
    found = find_projections(infos({name: shape for name, (shape, _) in TABLE["phi-3"].items()}))
    fused = next(one for one in found.tensors if "gate_up" in one.name)
    units = np.arange(H) * 1.0
    assert fused.per_line(units).tolist() == [*units, *units]
    assert fused.per_unit(np.arange(2 * H) * 1.0).tolist() == [2 * r + H for r in range(H)]


@pytest.mark.parametrize("dtype", ["I8", "U8", "F8_E4M3", "I32", "F64"])
def test_quantised_projections_are_refused_and_named(dtype: str) -> None:
    shapes = {name: shape for name, (shape, _) in TABLE["llama"].items()}
    with pytest.raises(NothingToMark, match=rf"quantised or not in 16 or 32 bits \({dtype}\)"):
        find_projections(infos(shapes, dtype) | infos(ATTENTION))


def test_packed_weights_of_a_quantiser_are_nothing_to_mark() -> None:
    shapes = {f"model.layers.0.mlp.{name}.qweight": (D, H) for name in ("gate_proj", "up_proj", "down_proj")}
    with pytest.raises(NothingToMark):
        find_projections(infos(shapes, "I32"))


def test_a_block_that_has_no_way_out_is_left_alone() -> None:
    alone = {"adapter.up_proj.weight": (H, D), "vision.fc1.weight": (H, D), "x.mlp.up_proj.weight": (2, H, D)}
    shapes = alone | {name: shape for name, (shape, _) in TABLE["llama"].items()}
    assert {one.name for one in find_projections(infos(shapes)).tensors} == set(TABLE["llama"])


def test_projections_that_differ_in_their_hidden_width_are_refused() -> None:
    shapes = {name: shape for name, (shape, _) in TABLE["llama"].items()}
    shapes["model.layers.0.mlp.up_proj.weight"] = (2 * H, D)
    with pytest.raises(NothingToMark, match=r"'model.layers.0.mlp' has 24 hidden units, but .*up_proj.weight' has 48"):
        find_projections(infos(shapes))
