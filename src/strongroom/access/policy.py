"""May X do Y to Z? And: what may X do? Policies are Cedar text; deciding is pure and cached.

cedarpy costs 0.12 to 0.32 ms a decision, so decisions are remembered per policy object; a policy object never changes.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.resources
from dataclasses import dataclass
from typing import Literal

import cedarpy

from strongroom.access.people import Certificate
from strongroom.core.errors import PolicyInvalid
from strongroom.core.ids import CheckpointName

HomeAction = Literal[
    "access.add",
    "access.disable",
    "access.policy",
    "access.approve",
    "home.backup",
    "registry.read",
    "ledger.read",
    "serving.manage",
    "serving.run",
    "watermark.detect",
    "custody.recipient",
    "custody.release",
    "lineage.decode",
    "privacy.corpus",
    "custody.declassify",
]
CheckpointAction = Literal[
    "custody.seal", "custody.open", "custody.export", "custody.issue", "custody.rewrap", "custody.verify"
]
Action = HomeAction | CheckpointAction
HOME_ACTIONS: tuple[HomeAction, ...] = HomeAction.__args__  # type: ignore[attr-defined] - a Literal's alternatives
CHECKPOINT_ACTIONS: tuple[CheckpointAction, ...] = CheckpointAction.__args__  # type: ignore[attr-defined] - as above
MOST_APPROVALS = 4  # a policy that asks for more can never be met


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked of the policy; `checkpoint` is None for an action on the home itself."""

    action: Action
    checkpoint: CheckpointName | None = None
    purpose: str = ""
    request: str = ""  # for access.approve: the action that the request asks for
    requester: str = ""  # for access.approve: who asks
    classification: str = ""  # of the checkpoint, by what it was trained on; the desk fills it in


class Policy:
    """One Cedar policy set, checked against the schema."""

    def __init__(self, text: str) -> None:
        """Read Cedar `text`.

        Raises:
            PolicyInvalid: it does not parse, or does not fit the schema.

        """
        verdict = cedarpy.validate_policies(text, schema_text())  # pyright: ignore[reportUnknownMemberType] - dict without arguments
        if not verdict.validation_passed:
            first = str(verdict.errors[0])[:300] if verdict.errors else "no reason given"
            raise PolicyInvalid(f"the policy is refused: {first}", where="policy")
        self.text = text
        self.digest = hashlib.sha256(text.encode()).hexdigest()
        self._set = cedarpy.PolicySet.from_str(text)
        self._schema = cedarpy.Schema.from_str(schema_text())
        self._decide = functools.lru_cache(maxsize=4096)(self._ask)

    def permits(self, who: Certificate, question: Question, *, approvals: int = 0) -> bool:
        """Return whether `who` may, with so many valid approvals by others. A disabled principal may nothing."""
        if who.status != "active":
            return False
        return self._decide((who.name, who.role, who.purpose), question, approvals)

    def approvals_needed(self, who: Certificate, question: Question) -> int | None:
        """Return how many approvals make `who`'s question permitted (0: none), or None if no number does."""
        counts = range(MOST_APPROVALS + 1)
        return next((count for count in counts if self.permits(who, question, approvals=count)), None)

    def _ask(self, who: tuple[str, str, str], question: Question, approvals: int) -> bool:
        name, role, purpose = who
        resource = _resource(question)
        entities: list[dict[str, object]] = [
            {
                "uid": {"type": "Person", "id": name},
                "attrs": {"name": name, "purpose": purpose},
                "parents": [{"type": "Role", "id": role}],
            },
            resource,
        ]
        request = {
            "principal": {"type": "Person", "id": name},
            "action": {"type": "Action", "id": question.action},
            "resource": resource["uid"],
            "context": {
                "approvals": approvals,
                "purpose": question.purpose,
                "request": question.request,
                "requester": question.requester,
            },
        }
        answer = cedarpy.is_authorized(request, self._set, entities, self._schema)  # pyright: ignore[reportUnknownMemberType] - as above
        return answer.allowed


def _resource(question: Question) -> dict[str, object]:
    checkpoint = question.checkpoint
    if checkpoint is None:
        return {"uid": {"type": "Home", "id": "home"}, "attrs": {}, "parents": []}
    return {
        "uid": {"type": "Checkpoint", "id": str(checkpoint)},
        "attrs": {"name": checkpoint.name, "tag": checkpoint.tag, "classification": question.classification},
        "parents": [],
    }


def schema_text() -> str:
    """Return the Cedar schema that every policy must fit."""
    return _shipped("schema.cedarschema")


def default_text() -> str:
    """Return the policy that a new home starts with."""
    return _shipped("default.cedar")


@functools.cache
def _shipped(name: str) -> str:
    return importlib.resources.files("strongroom.access").joinpath(name).read_text(encoding="utf-8")
