"""What this gateway gives away beside text: the secret that keys it, and the counts of what each account has seen."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable
from typing import Final, TypeVar, cast

from strongroom.serving.admit import Caller
from strongroom.serving.disclosure import gate
from strongroom.serving.disclosure.bias_sets import BiasSets, bias_digest, prompt_digest
from strongroom.serving.roster import Roster
from strongroom.serving.wire import Wanted
from strongroom.serving.wire_errors import Refusal

_LEAST: Final = 32  # bytes of a veil
_Made = TypeVar("_Made")


class Discloses:
    """One of these a gateway."""

    __slots__ = ("_vectors", "sets", "veil")

    def __init__(self) -> None:
        """Begin with a secret of this process's own, for as long as control has given none."""
        self.veil = secrets.token_bytes(_LEAST)
        self.sets = BiasSets()
        self._vectors: tuple[bytes, object] = (b"", None)  # what softens vectors, and by which veil

    def learn(self, roster: Roster, today: str) -> None:
        """Take the house's secret, and forget what was counted on other days."""
        if len(roster.veil) >= _LEAST:
            self.veil = roster.veil
        self.sets.forget(today)

    def vectors(self, make: Callable[[bytes], _Made]) -> _Made:
        """Return what softens vectors, made once a veil."""
        if self._vectors[0] != self.veil:
            self._vectors = (self.veil, make(self.veil))
        return cast("_Made", self._vectors[1])

    def seed(self, given: int, account: str, *, bits: int) -> int:
        """Return the seed that the engine draws by: a secret function of the one that was asked for.

        Who knew the draw could tell from each answer how logits compare: a bias by another name. The same seed still
        writes the same text for the same account.
        """
        told = hashlib.blake2b(b"%d %b" % (given, account.encode()), key=self.veil[:64], digest_size=8, person=b"seed")
        return int.from_bytes(told.digest()) >> (64 - bits)

    def refusal(self, wanted: Wanted, caller: Caller, today: str) -> Refusal | None:
        """Return why a request that asks for log probabilities or a bias is refused, if so; else count it."""
        for one in gate.refusals(wanted, caller.tier):
            return one
        account, prompt = caller.account.name, b""
        if wanted.logit_bias:
            prompt = prompt_digest(self.veil, wanted.turns, wanted.prompt)
            bias = bias_digest(wanted.logit_bias)
            if not self.sets.admit(account, today, prompt=prompt, bias=bias, tier=caller.tier):
                return Refusal("bias_sets_exceeded", "logit_bias", rule="bias_sets")
        if wanted.top_logprobs is not None:
            self.sets.shown(account, today, top=caller.tier.top_logprobs, prompt=prompt)
        return None
