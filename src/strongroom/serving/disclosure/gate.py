"""What a tier lets a request ask for. Pure, and nothing is done for what a request does not ask for."""

from __future__ import annotations

from typing import Final, Protocol

from strongroom.serving.disclosure.tiers import BESIDE_LOGPROBS, Tier
from strongroom.serving.wire_errors import Refusal

_CODE: Final = "not_in_tier"


class Asked(Protocol):
    """What a request asks for beside the text, as the reader of its body has it."""

    @property
    def top_logprobs(self) -> int | None:
        """How many likeliest tokens; None: no log probabilities at all."""
        ...

    @property
    def logit_bias(self) -> tuple[tuple[int, float], ...]:
        """Tokens and what is added to their logits."""
        ...

    @property
    def biased(self) -> int:
        """Entries of the bias as they were sent, those of 0 among them."""
        ...


def refusals(asked: Asked, tier: Tier) -> list[Refusal]:
    """Return everything in a request that its tier does not have."""
    if asked.top_logprobs is None and not asked.biased:
        return []
    found = list[Refusal]()
    if asked.top_logprobs is not None and asked.top_logprobs > tier.top_logprobs:
        none = tier.top_logprobs < 0
        field = "logprobs" if none else "top_logprobs"
        said = "This account's tier shows none." if none else f"This account's tier shows {tier.top_logprobs} at most."
        found.append(Refusal(_CODE, field, detail=said, rule="logprobs"))
    if asked.biased:
        found += _bias(asked, tier)
    return found


def _bias(asked: Asked, tier: Tier) -> list[Refusal]:
    most = max((abs(value) for _, value in asked.logit_bias), default=0.0)
    if asked.biased > tier.biased or most > tier.bias:
        said = f"This account's tier takes {tier.biased} tokens at most, up to {tier.bias:g} each."
        return [Refusal(_CODE, "logit_bias", detail=said, rule="logit_bias")]
    if asked.top_logprobs is not None and most > BESIDE_LOGPROBS:
        said = f"Beside log probabilities a bias is {BESIDE_LOGPROBS:g} at most, in every tier."
        return [Refusal(_CODE, "logit_bias", detail=said, rule="bias_beside_logprobs")]
    return []


def embeddings(tier: Tier) -> Refusal | None:
    """Return why this tier may not ask for vectors, if so."""
    return None if tier.embeddings else Refusal(_CODE, None, detail="It serves no embeddings.", rule="embeddings")


def fine_tuning(tier: Tier) -> Refusal:
    """Return why a path of fine-tuning is refused: by the tier, or because there is nothing behind it."""
    if tier.fine_tuning:
        return Refusal("not_served", None, detail="No engine here fine-tunes.", rule="fine_tuning")
    return Refusal(_CODE, None, detail="It has no fine-tuning.", rule="fine_tuning")
