"""A model from memory is the one that transformers loads from the plain directory; misfits and code are refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from strongroom.core.errors import BadInput, StrongroomError  # noqa: E402 - after the skip
from strongroom.core.serving_errors import UntrustedCode  # noqa: E402 - after the skip
from strongroom.engines.transformers_load import load_model  # noqa: E402

if TYPE_CHECKING:
    from tests.engines.models import MemorySource

IDS = torch.arange(4, 24)[None]


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_logits_are_those_of_the_plain_directory(
    make_plain: Callable[..., Path], open_plain: type[MemorySource], *, kind: str, tied: bool, dtype: str
) -> None:
    plain = make_plain(kind, tied=tied, dtype=dtype)
    expected = transformers.AutoModelForCausalLM.from_pretrained(plain)
    model: Any = load_model(open_plain(plain))
    with torch.inference_mode():
        assert torch.equal(model(IDS).logits, expected(IDS).logits)
    assert model.dtype is getattr(torch, dtype)
    assert not model.training
    for (name, given), (other, wanted) in zip(model.named_buffers(), expected.named_buffers(), strict=True):
        assert name == other
        assert torch.equal(given, wanted), name
    assert (model.get_output_embeddings().weight is model.get_input_embeddings().weight) == tied


def test_weights_share_the_memory_that_the_source_gave(source: MemorySource) -> None:
    model: Any = load_model(source)
    loaded = dict(model.named_parameters())
    given = {name: source.tensors[name].data_ptr() for name in source.keys()}  # noqa: SIM118 - not a dict
    assert {name: loaded[name].data_ptr() for name in given} == given


def test_a_tied_head_may_be_stored_twice(make_plain: Callable[..., Path], open_plain: type[MemorySource]) -> None:
    plain = make_plain("llama", tied=True)
    source = open_plain(plain)
    source.tensors["lm_head.weight"] = source.tensors["model.embed_tokens.weight"].clone()
    once: Any = load_model(open_plain(plain))
    twice: Any = load_model(source)
    with torch.inference_mode():
        assert torch.equal(twice(IDS).logits, once(IDS).logits)


def test_progress_is_told(source: MemorySource) -> None:
    seen: list[tuple[int, int]] = []
    load_model(source, progress=lambda done, total: seen.append((done, total)))
    count = len(source.tensors)
    assert seen == [(index, count) for index in range(1, count + 1)]


def _drop(source: MemorySource) -> None:
    del source.tensors["model.norm.weight"]


def _add(source: MemorySource) -> None:
    source.tensors["model.layers.9.backdoor"] = torch.zeros(1)


def _reshape(source: MemorySource) -> None:
    source.tensors["model.norm.weight"] = torch.zeros(31)


def _empty(source: MemorySource) -> None:
    source.tensors.clear()


def _no_config(source: MemorySource) -> None:
    del source.blobs["config.json"]


def _broken_config(source: MemorySource) -> None:
    source.blobs["config.json"] = b"{"


def _deep_config(source: MemorySource) -> None:
    source.blobs["config.json"] = b'{"a":' + b"[" * 100_000


CHANGES: list[tuple[Callable[..., None], str]] = [
    (_drop, "model.norm.weight"),
    (_add, "model.layers.9.backdoor"),
    (_reshape, "model.norm.weight"),
    (_empty, "config.json"),
    (_no_config, "config.json"),
    (_broken_config, "config.json"),
    (_deep_config, "config.json"),
]


@pytest.mark.parametrize(("change", "where"), CHANGES, ids=[change.__name__ for change, _ in CHANGES])
def test_what_does_not_fit_is_named(source: MemorySource, change: Callable[..., None], where: str) -> None:
    change(source)
    with pytest.raises(BadInput) as caught:
        load_model(source)
    assert caught.value.where == where


@pytest.mark.parametrize(
    "changes",
    [
        {"model_type": "no-such-thing"},
        {"model_type": None},
        {"model_type": "vit"},
        {"hidden_size": "wide"},
        {"hidden_size": -1},
        {"num_attention_heads": 0},
        {"num_attention_heads": 5},
        {"dtype": "load"},
        {"hidden_act": "system"},
        {"rope_parameters": {"rope_type": "none-such"}},
    ],
    ids=str,
)
def test_a_config_that_makes_no_sense_is_bad_input(source: MemorySource, changes: dict[str, object]) -> None:
    source.change("config.json", **changes)
    with pytest.raises(BadInput):
        load_model(source)


@pytest.mark.parametrize(
    "changes",
    [
        {"auto_map": {"AutoModelForCausalLM": "modeling_evil.Evil"}},
        {"custom_pipelines": {"text": {"impl": "evil.Pipeline"}}},
        {"trust_remote_code": True},
        {"attn_implementation": "somebody/kernel"},
        {"_attn_implementation": "somebody/kernel:attention"},
        {"experts_implementation": {"": "somebody/kernel"}},
        {"quantization_config": {"quant_method": "quark"}},
        {"text_config": {"deep": [{"auto_map": {"AutoModel": "other/repo--evil.Evil"}}]}},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_code_is_refused(source: MemorySource, changes: dict[str, object]) -> None:
    source.change("config.json", **changes)
    with pytest.raises(UntrustedCode) as caught:
        load_model(source)
    assert caught.value.where == "config.json"
    assert "evil" not in caught.value.message
    assert isinstance(caught.value, StrongroomError)


def test_the_plain_name_of_an_implementation_is_no_code(source: MemorySource) -> None:
    source.change("config.json", attn_implementation="eager", use_kernels=False)
    assert load_model(source).config._attn_implementation == "sdpa"


def test_python_files_in_the_checkpoint_are_not_read(source: MemorySource, tmp_path: Path) -> None:
    source.blobs["modeling_llama.py"] = f"open({str(tmp_path / 'ran')!r}, 'w')".encode()
    load_model(source)
    assert not (tmp_path / "ran").exists()
