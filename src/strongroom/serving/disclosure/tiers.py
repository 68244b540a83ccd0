"""Tiers: what an account may learn of the model beside the text that it writes.

A request whose bias moves tokens into the shown log probabilities gives away one row of the model's last layer a
token (Carlini et al., arXiv 2403.06634). Beside log probabilities a bias is therefore never over 2 in any tier: so it
reaches 0.44 % of the vocabulary, and hardly a token under two prompts (measured on SmolLM2-135M). Without them it may
be large, but each distinct set of biases is counted: comparing argmaxes takes some twelve sets a logit.
"""

from __future__ import annotations

from typing import Final, Literal

import msgspec

from strongroom.core.errors import BadInput

BESIDE_LOGPROBS: Final = 2.0  # most of |bias| in a request that asks for log probabilities, whatever the tier
Reasoning = Literal["removed", "counted", "shown"]


class Tier(msgspec.Struct, frozen=True, kw_only=True):
    """One step of trust."""

    name: str
    top_logprobs: int  # the likeliest tokens shown in each place; -1: no log probabilities at all
    decimals: int  # of a log probability that is shown
    noise: float  # nats: standard deviation of the keyed noise on it; 0: none
    biased: int  # entries of a logit_bias; 0: none is taken
    bias: float  # most of |bias| without log probabilities
    bias_sets: int  # distinct sets of biases beside one prompt, a UTC day
    bias_sets_a_day: int  # … and in all
    answers: int  # n; until several are written at once, 1 in every tier
    embeddings: bool
    fine_tuning: bool
    reasoning: Reasoning  # of models that think aloud: left out, replaced by its length, or passed on


CLOSED: Final = Tier(
    name="closed",
    top_logprobs=-1,
    decimals=2,
    noise=0.0,
    biased=0,
    bias=0.0,
    bias_sets=0,
    bias_sets_a_day=0,
    answers=1,
    embeddings=False,
    fine_tuning=False,
    reasoning="removed",
)
_STANDARD: Final = Tier(
    name="standard",
    top_logprobs=5,
    decimals=4,
    noise=0.0,
    biased=32,
    bias=100.0,
    bias_sets=4,
    bias_sets_a_day=32,
    answers=1,
    embeddings=True,
    fine_tuning=False,
    reasoning="counted",
)
_TRUSTED: Final = Tier(
    name="trusted",
    top_logprobs=20,
    decimals=4,
    noise=0.02,
    biased=300,
    bias=100.0,
    bias_sets=2,  # beside 20 log probabilities each: with none at all, 60 of a prompt
    bias_sets_a_day=128,
    answers=1,
    embeddings=True,
    fine_tuning=True,
    reasoning="shown",
)
TIERS: Final = {one.name: one for one in (CLOSED, _STANDARD, _TRUSTED)}
FIRST: Final = "standard"  # a new account's


def tier_of(name: str) -> Tier:
    """Return a tier.

    Raises:
        BadInput: there is none of that name.

    """
    if name not in TIERS:
        raise BadInput(f"there are the tiers {', '.join(TIERS)}", where="tier")
    return TIERS[name]
