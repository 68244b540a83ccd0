"""Vectors on their way out: narrower, noisy, and the same for the same text."""

from __future__ import annotations

import numpy as np
import pytest

from strongroom.serving.veil_vectors import NOISE, VectorVeil, served_width

KEY = bytes(range(32))


def served(rows: np.ndarray, texts: list[str], *, key: bytes = KEY, dimensions: int | None = None) -> np.ndarray:
    raw = rows.astype("<f4").tobytes()
    made = VectorVeil(key).soften(raw, texts, width=rows.shape[1], dimensions=dimensions)
    return np.array([np.frombuffer(one, "<f4") for one in made], np.float64)


def unrelated(many: int, width: int) -> tuple[np.ndarray, list[str]]:
    rows = np.random.default_rng(5).normal(size=(many, width))
    return rows, [str(at) for at in range(many)]


@pytest.mark.parametrize(("width", "narrow"), [(1, 1), (2, 1), (64, 32), (63, 16), (576, 256), (511, 128), (8192, 256)])
def test_the_width_that_is_served_is_a_power_of_two_and_at_most_half(width: int, narrow: int) -> None:
    assert served_width(width) == narrow


def test_however_many_are_asked_for_they_span_the_served_width() -> None:
    rows, texts = unrelated(300, 96)
    assert np.linalg.matrix_rank(rows) == 96
    assert served(rows, texts).shape == (300, 32)
    assert served(rows, texts, dimensions=64).shape == (300, 32)


def test_noise_is_a_function_of_the_text_and_of_the_secret() -> None:
    rows, texts = unrelated(20, 64)
    again = served(np.concatenate([rows[:1]] * 20), [*texts[:10], *texts[:10]])
    assert np.array_equal(again[:10], again[10:])
    assert len({row.tobytes() for row in again}) == 10  # the same vector under ten texts
    away = np.linalg.norm(again[:10] - again[:10].mean(0), axis=1)
    assert 0.5 * NOISE < away.mean() < 1.5 * NOISE
    assert not np.allclose(served(rows, texts), served(rows, texts, key=KEY[::-1]), atol=0.1)


def test_what_lies_near_stays_near() -> None:
    rng = np.random.default_rng(6)
    centres = rng.normal(size=(10, 512))
    rows = np.repeat(centres, 10, axis=0) + 0.5 * rng.normal(size=(100, 512))
    shown = served(rows, [str(at) for at in range(100)])
    cosines = shown @ shown.T - 2 * np.eye(100)
    assert all(at // 10 == near // 10 for at, near in enumerate(cosines.argmax(1)))


def test_nothing_becomes_of_nothing() -> None:
    shown = served(np.zeros((1, 64)), ["x"])
    assert np.isfinite(shown).all()
    assert np.linalg.norm(shown) == pytest.approx(1, abs=1e-5)


def test_the_stream_is_pinned() -> None:
    """Vectors that a customer has kept compare with new ones after an update, too."""
    rows = np.arange(1, 17, dtype=np.float64)[None]
    assert served(rows, ["pinned"])[0] == pytest.approx(PINNED, abs=1e-5)


PINNED = [0.130993, -0.085814, 0.117744, -0.172684, -0.689628, 0.371848, -0.544317, 0.147157]
