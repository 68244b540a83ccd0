"""The whole way: a sealed checkpoint, opened by somebody who may, runs from memory."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from safetensors import safe_open

from strongroom.core.secrets import Secret
from strongroom.wiring.home import open_home
from tests.journeys.shell import Shell

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")


@pytest.fixture
def shell(tmp_path: Path, quick_argon: None, make_plain: Callable[..., Path]) -> tuple[Shell, Path]:
    settled, model = Shell(tmp_path).settle(), make_plain(dtype="bfloat16")
    assert settled("custody", "seal", str(model), "tiny:v1", who="carla").status == 0
    return settled, model


def test_a_sealed_model_writes(shell: tuple[Shell, Path]) -> None:
    words = ("engine", "generate", "tiny:v1", "--prompt", "ab", "--max-new-tokens", "5")
    said = shell[0](*words, who="rosa")
    assert said.status == 0, said.out
    assert 1 <= said.json["new_tokens"] <= 5
    assert shell[0](*words, who="ada").code == "access.not_permitted"
    again = shell[0](*words, who="rosa")
    assert again.json["text"] == said.json["text"]


def test_torch_tensors_are_those_that_were_sealed(shell: tuple[Shell, Path]) -> None:
    home = open_home(shell[0].home)
    rosa = home.desk.authenticate("rosa", Secret(b"passphrase of rosa"))
    (weights,) = shell[1].glob("*.safetensors")
    with (
        home.read(rosa, "tiny:v1", purpose="compare", framework="pt") as sealed,
        safe_open(weights, "pt") as plain,
    ):
        assert sorted(sealed.keys()) == sorted(plain.keys())
        for name in plain.keys():  # noqa: SIM118 - a safe_open is no dictionary
            assert torch.equal(sealed.get_tensor(name), plain.get_tensor(name))
            assert torch.equal(sealed.get_slice(name)[:1], plain.get_slice(name)[:1])
    home.close()
