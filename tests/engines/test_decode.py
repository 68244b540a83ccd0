"""The decode loop: a row's text does not depend on its neighbours, on when it came, or on where tokens end."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from strongroom.core.errors import BadInput, EngineFailed, StrongroomError  # noqa: E402 - after the skip
from strongroom.core.secrets import Secret  # noqa: E402
from strongroom.engines.decode import Batch  # noqa: E402
from strongroom.engines.row import Order, Row, Wrote  # noqa: E402
from strongroom.engines.stops import Stops  # noqa: E402
from strongroom.engines.transformers_engine import Engine  # noqa: E402
from strongroom.ports.engine import Sampling  # noqa: E402
from strongroom.watermark.keys import MarkKey  # noqa: E402

if TYPE_CHECKING:
    from tests.engines.models import MemorySource

PROMPTS = ["Hi", "The keeper of the old lighthouse went", "one two", "x" * 23, "zebra", "q"]
KEY = MarkKey("acme", "2026-11", Secret(bytes(range(16))))


@pytest.fixture(scope="module", params=["llama", "gpt2"])
def engine(request: pytest.FixtureRequest, make_plain: Callable[..., Path], open_plain: type[MemorySource]) -> Engine:
    return Engine.load(open_plain(make_plain(request.param)))


def order(engine: Engine, prompt: str, *, count: int = 12, stop: Sequence[str] = (), **choice: float | None) -> Order:
    ids = engine.tokens.encode(prompt)
    logprobs = choice.pop("top_logprobs", None)
    sampling = Sampling(max_new_tokens=count, **choice)  # type: ignore[arg-type]
    return Order(
        ids=ids,
        room=engine.room(ids, count),
        sampling=sampling,
        stop=tuple(stop),
        top_logprobs=None if logprobs is None else int(logprobs),
    )


def write(batch: Batch, rows: Sequence[Row], every: int = 0) -> list[str]:
    """Let rows in one after the other, `every` so many steps, and return their texts."""
    texts = dict.fromkeys(rows, "")
    waiting = list(rows)
    while waiting or len(batch):
        for _ in range(len(waiting) if not every else 1):
            if waiting:
                batch.join(waiting.pop(0))
        for _ in range(every or 1):
            for row, wrote in batch.step():
                assert isinstance(wrote, Wrote), wrote
                texts[row] += wrote.text
    return list(texts.values())


@pytest.mark.parametrize("every", [0, 1, 3])
@pytest.mark.parametrize(
    "choice", [{}, {"temperature": 1.5, "top_p": 0.9, "top_k": 40, "seed": 5}], ids=["cold", "hot"]
)
def test_a_batch_writes_what_each_row_would_alone(engine: Engine, every: int, choice: dict[str, float]) -> None:
    orders = [order(engine, prompt, count=5 + 3 * place, **choice) for place, prompt in enumerate(PROMPTS)]
    alone = [write(engine.batch(), [engine.row(one, KEY)])[0] for one in orders]
    assert write(engine.batch(), [engine.row(one, KEY) for one in orders], every) == alone
    assert len(set(alone)) == len(alone)


SIZES = {"vocab_size": 97, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
ARCHITECTURES = {  # positions by rotation, by a table, by a slope; windows narrower than the text
    "Gemma2": SIZES | {"num_key_value_heads": 2, "head_dim": 8, "intermediate_size": 64, "sliding_window": 6},
    "Mistral": SIZES | {"num_key_value_heads": 2, "intermediate_size": 64, "sliding_window": 6},
    "OPT": SIZES | {"ffn_dim": 64, "word_embed_proj_dim": 32, "max_position_embeddings": 64},
    "Bloom": {"vocab_size": 97, "hidden_size": 32, "n_layer": 2, "n_head": 4},
    "Mamba": {"vocab_size": 97, "hidden_size": 32, "num_hidden_layers": 2},
}


class Numbers:
    """A tokenizer whose words are numbers."""

    def stream(self) -> Numbers:
        return self

    def step(self, token: int) -> str:
        return f"{token} "

    def decode(self, ids: Sequence[int]) -> str:
        return "".join(map(self.step, ids))


def random_model(kind: str) -> Any:
    torch.manual_seed(1)
    config = getattr(transformers, f"{kind}Config")(**ARCHITECTURES[kind])
    model = transformers.AutoModelForCausalLM.from_config(config).eval()
    with torch.no_grad():
        for weights in model.parameters():
            if weights.dim() > 1:
                weights.mul_(4)  # so that the likeliest token is so by far
    model.generation_config = transformers.GenerationConfig(pad_token_id=0)
    return model


@pytest.mark.parametrize("kind", [kind for kind in ARCHITECTURES if kind != "Mamba"])
def test_other_architectures_write_what_transformers_does(kind: str) -> None:
    model = random_model(kind)
    prompts = [[5, 6, 7], [9, 10, 11, 12, 13, 14, 15, 16, 17, 18], [3], [20, 21, 22, 23, 24]]
    orders = [Order(ids=ids, room=14, sampling=Sampling()) for ids in prompts]
    rows = [Row(one, Numbers(), marker=None, ends=frozenset()) for one in orders]  # type: ignore[arg-type]
    write(Batch(model, Numbers()), rows, 2)  # type: ignore[arg-type]
    for ids, row in zip(prompts, rows, strict=True):
        given = torch.tensor([ids])
        mask = torch.ones_like(given)
        theirs = model.generate(given, attention_mask=mask, max_new_tokens=14, do_sample=False)
        assert row.new == theirs[0, len(ids) :].tolist()


def test_a_model_whose_state_is_no_cache_of_positions_is_refused() -> None:
    row = Row(Order(ids=[1, 2], room=4, sampling=Sampling()), Numbers(), marker=None, ends=frozenset())  # type: ignore[arg-type]
    batch = Batch(random_model("Mamba"), Numbers())  # type: ignore[arg-type]
    batch.join(row)
    (outcome,) = batch.step()
    assert isinstance(outcome[1], BadInput)


def test_a_long_prompt_is_read_in_pieces(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = write(engine.batch(), [engine.row(order(engine, "x" * 23))])
    monkeypatch.setattr("strongroom.engines.decode._CHUNK", 5)
    assert write(engine.batch(), [engine.row(order(engine, "x" * 23))]) == whole
    assert write(engine.batch(), [engine.row(order(engine, "ab")), engine.row(order(engine, "x" * 23))])[1:] == whole


def test_rows_that_leave_do_not_disturb_the_others(engine: Engine) -> None:
    orders = [order(engine, prompt, count=15) for prompt in PROMPTS[:4]]
    alone = [write(engine.batch(), [engine.row(one)])[0] for one in orders]
    batch, rows = engine.batch(), [engine.row(one) for one in orders]
    texts = dict.fromkeys(rows, "")
    for row in rows:
        batch.join(row)
    for step in range(15):
        if step == 4:
            batch.leave(rows[1])  # the longest: the others' padding goes with it
        for row, wrote in batch.step():
            assert isinstance(wrote, Wrote)
            texts[row] += wrote.text
    assert [texts[row] for row in (rows[0], rows[2], rows[3])] == [alone[0], alone[2], alone[3]]
    assert alone[1].startswith(texts[rows[1]])
    assert len(texts[rows[1]]) < len(alone[1])
    assert len(batch) == 0


def test_a_mark_is_in_all_draws_but_the_first_and_in_none_at_temperature_0(engine: Engine) -> None:
    hot = engine.row(order(engine, "ab", count=20, temperature=2.0, seed=2), KEY)
    cold = engine.row(order(engine, "ab", count=20), KEY)
    plain = engine.row(order(engine, "ab", count=20, temperature=2.0, seed=2))
    write(engine.batch(), [hot, cold, plain])
    assert 0 < hot.marked <= len(hot.new) - 4
    assert (cold.marked, plain.marked) == (0, 0)


def test_logprobs_are_the_models_own(engine: Engine) -> None:
    given = order(engine, "abc", count=4, temperature=0.3, seed=1, top_logprobs=3)
    row, batch, found = engine.row(given), engine.batch(), []
    batch.join(row)
    while row.finish is None:
        for _, wrote in batch.step():
            assert isinstance(wrote, Wrote)
            found += wrote.logprobs
    with torch.inference_mode():
        logits = engine.model(torch.tensor([[*given.ids, *row.new]])).logits[0]
    expected = logits.log_softmax(-1)
    for place, (token, said) in enumerate(zip(row.new, found, strict=True)):
        likely = expected[len(given.ids) + place - 1]
        assert said.logprob == pytest.approx(float(likely[token]), abs=1e-4)
        assert [value for _, _, value in said.top] == pytest.approx(likely.topk(3).values.tolist(), abs=1e-4)
        assert (said.token, bytes(said.bytes)) == (engine.tokens.decode([token]), said.token.encode())


def test_logprobs_of_a_stop_string_stay_in(engine: Engine) -> None:
    text = write(engine.batch(), [engine.row(order(engine, "abc", count=8))])[0]
    row, batch, found = engine.row(order(engine, "abc", count=8, stop=[text[2:5]], top_logprobs=0)), engine.batch(), []
    batch.join(row)
    while row.finish is None:
        for _, wrote in batch.step():
            assert isinstance(wrote, Wrote)
            found += wrote.logprobs
    assert "".join(one.token for one in found) == text[: text.find(text[2:5])]


@pytest.mark.parametrize("size", [1, 2, 3, 7])
@pytest.mark.parametrize(
    ("text", "stops", "expected"),
    [
        ("hello world", ["lo w"], "hel"),
        ("hello world", ["xyz"], "hello world"),
        ("hello wor", ["world"], "hello wor"),
        ("aaab", ["aab"], "a"),
        ("one\n\ntwo", ["\n\n", "two"], "one"),
        ("abcd", ["abcd", "bc"], "a"),
        ("xabc", ["bc", "abc"], "x"),
        ("naïve é", ["é"], "naïve "),
        ("", ["x"], ""),
        ("no stops", [], "no stops"),
        ("empty", [""], "empty"),
    ],
)
def test_stop_strings_wherever_the_tokens_end(size: int, text: str, stops: list[str], expected: str) -> None:
    machine, given, hit = Stops(stops), "", False
    for start in range(0, len(text), size):
        more, hit = machine.feed(text[start : start + size])
        given += more
        assert not any(one and one in given for one in stops)
        if hit:
            break
    assert given + ("" if hit else machine.flush()) == expected
    assert hit == (expected != text)


def test_a_stop_string_ends_the_text(engine: Engine) -> None:
    text = write(engine.batch(), [engine.row(order(engine, "abc", count=12))])[0]
    stop = text[4:7]
    row = engine.row(order(engine, "abc", count=12, stop=[stop]))
    assert write(engine.batch(), [row]) == [text[: text.find(stop)]]
    assert row.finish == "stop"
    assert len(row.new) == text.find(stop) + len(stop)


def test_half_a_character_is_never_given_out(engine: Engine) -> None:
    class Bytes:
        """A tokenizer of bytes."""

        def __init__(self) -> None:
            self.raw = b""

        def step(self, token: int) -> str:
            before = self.raw.decode(errors="ignore")
            self.raw += bytes([token])
            return self.raw.decode(errors="ignore")[len(before) :]

        def stream(self) -> Bytes:
            return Bytes()

        def decode(self, ids: Sequence[int]) -> str:
            return bytes(ids).decode(errors="replace")

    raw = "aé\U0001f511z".encode()
    for count in range(1, len(raw) + 1):
        given = Order(ids=[1], room=count, sampling=Sampling())
        row = Row(given, Bytes(), marker=None, ends=frozenset())  # type: ignore[arg-type]
        text = "".join(row.take(token).text for token in raw[:count])
        assert text == raw[:count].decode(errors="ignore")
        assert row.finish == "length"


def test_one_rows_trouble_is_not_the_others(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    good, bad = engine.row(order(engine, "abc")), engine.row(order(engine, "abd"))
    expected = write(engine.batch(), [engine.row(order(engine, "abc"))])

    def fail(_token: int, _logprob: object = None) -> Wrote:
        raise ValueError("a text that must not be told")

    batch, text, failed = engine.batch(), "", []
    batch.join(good)
    batch.join(bad)
    for step in range(12):
        if step == 3:
            monkeypatch.setattr(bad, "take", fail)
        for row, wrote in batch.step():
            if isinstance(wrote, StrongroomError):
                failed.append((row, wrote))
            elif row is good:
                text += wrote.text
    assert [text] == expected
    assert [(row, type(error)) for row, error in failed] == [(bad, EngineFailed)]
    assert "text" not in str(failed[0][1])


def test_what_is_not_a_number_fails_its_row_only(engine: Engine) -> None:
    rows = [engine.row(order(engine, "abc", temperature=heat)) for heat in (0, 1.0, 1.0)]
    logits = torch.randn(3, 99)
    logits[1, 5] = float("nan")
    outcomes = engine.batch()._write(rows, logits)
    assert [isinstance(wrote, Wrote) for _, wrote in outcomes] == [True, False, True]
