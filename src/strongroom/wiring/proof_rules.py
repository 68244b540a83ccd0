"""The routes and field rules that `serving prove-limits` breaks, one request each."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import msgspec

from strongroom.serving.disclosure.fields import FIELDS, FINE_TUNING, PATHS
from strongroom.serving.disclosure.gate import fine_tuning
from strongroom.serving.disclosure.tiers import BESIDE_LOGPROBS, FIRST, TIERS, Tier
from strongroom.serving.policy import CHAT, EMBED, MODELS, TERMS, TEXT, fields_of

_ROUTES: Final = (("POST", CHAT), ("POST", TEXT), ("POST", EMBED), ("GET", MODELS), ("GET", TERMS))
_MOST_SHOWN: Final = 20  # that the reader of bodies takes at all
_MOST_BIASED: Final = 300
_NEEDED: Final[dict[str, dict[str, object]]] = {
    CHAT: {"messages": [{"role": "user", "content": "go"}]},
    TEXT: {"prompt": "go"},
    EMBED: {"input": "go"},
}


class Rule(msgspec.Struct, frozen=True, kw_only=True):
    """A request of somebody in `tier` that must be refused with `code`, about the field `param`.

    `before`: bodies that are sent to the same target first, and may be taken.
    """

    name: str
    method: str = "POST"
    target: str
    code: str
    param: str | None = None
    body: dict[str, object] | None = None
    tier: str = FIRST
    before: tuple[dict[str, object], ...] = ()


def routes_and_fields() -> Iterator[Rule]:
    """Yield every rule: routes that want a key, routes that are closed, fields that are not taken, and the tiers'."""
    for method, target in _ROUTES:
        body: dict[str, object] | None = {} if method == "POST" else None
        name = f"route {method} {target} wants a key"
        yield Rule(name=name, method=method, target=target, code="missing_api_key", body=body)
    for target in PATHS:
        yield Rule(name=f"route POST {target} is closed", target=target, code="not_found", body={})
    for target, needed in _NEEDED.items():
        for field in FIELDS.keys() - set(fields_of(target)):
            name = f"field {field} of {target} is refused"
            body = {**needed, field: 1}
            yield Rule(name=name, target=target, code="unsupported_parameter", param=field, body=body)
    for tier in TIERS.values():
        yield from _of_tier(tier)


def _of_tier(tier: Tier) -> Iterator[Rule]:
    told = "no log probabilities" if tier.top_logprobs < 0 else f"{tier.top_logprobs} log probabilities at most"
    if tier.top_logprobs < _MOST_SHOWN:
        field = "logprobs" if tier.top_logprobs < 0 else "top_logprobs"
        yield _refused(tier, told, field, logprobs=True, top_logprobs=tier.top_logprobs + 1)
    if tier.biased < _MOST_BIASED:
        biases = {str(token): 1 for token in range(tier.biased + 1)}
        yield _refused(tier, f"{tier.biased} biased tokens at most", "logit_bias", logit_bias=biases)
    if tier.biased and tier.top_logprobs >= 0:
        over = {"1": BESIDE_LOGPROBS + 0.5}
        told = f"no bias over {BESIDE_LOGPROBS:g} beside log probabilities"
        yield _refused(tier, told, "logit_bias", logprobs=True, logit_bias=over)
    if tier.bias_sets:
        *before, last = ({**_NEEDED[CHAT], "logit_bias": {"1": 1 + at}} for at in range(tier.bias_sets + 1))
        name = f"tier {tier.name}: {tier.bias_sets} sets of biases beside a prompt"
        code = "bias_sets_exceeded"
        yield Rule(
            name=name, target=CHAT, code=code, param="logit_bias", body=last, tier=tier.name, before=tuple(before)
        )
    if not tier.embeddings:
        name = f"tier {tier.name}: no embeddings"
        yield Rule(name=name, target=EMBED, code="not_in_tier", body=_NEEDED[EMBED], tier=tier.name)
    name, code = f"tier {tier.name}: no fine-tuning", fine_tuning(tier).code
    yield Rule(name=name, target=f"{FINE_TUNING}/jobs", code=code, body={}, tier=tier.name)


def _refused(tier: Tier, told: str, field: str, **body: object) -> Rule:
    body = {**_NEEDED[CHAT], **body}
    name = f"tier {tier.name}: {told}"
    return Rule(name=name, target=CHAT, code="not_in_tier", param=field, body=body, tier=tier.name)
