"""The shipped policy, row by row, and policies of one's own."""

from __future__ import annotations

import pytest

from strongroom.access.keys import Keyring, new_seed
from strongroom.access.people import ROLES, Certificate, Role
from strongroom.access.policy import CHECKPOINT_ACTIONS, HOME_ACTIONS, Policy, Question, default_text
from strongroom.core.errors import PolicyInvalid
from strongroom.core.ids import CheckpointName

CHAT = CheckpointName("chat", "v1")
KEYS = Keyring("x", new_seed()).public

# role → what it may on a checkpoint, and on the home, with how many approvals by others
SERVING = {"serving.manage": 0, "serving.run": 0, "watermark.detect": 0}
COPIES = {"custody.recipient": 0, "custody.release": 0, "privacy.corpus": 0, "custody.declassify": 1}
TABLE: dict[Role, dict[str, int]] = {
    "owner": {
        "custody.rewrap": 0,
        "custody.verify": 0,
        "access.add": 0,
        "access.disable": 0,
        "access.policy": 1,
        "access.approve": 0,
        "home.backup": 0,
        "registry.read": 0,
        "ledger.read": 0,
        **SERVING,
        **COPIES,
    },
    "custodian": {
        "custody.seal": 0,
        "custody.open": 0,
        "custody.export": 1,
        "custody.issue": 1,
        "lineage.decode": 0,
        "custody.rewrap": 0,
        "custody.verify": 0,
        "access.approve": 0,
        "registry.read": 0,
        "ledger.read": 0,
        **SERVING,
        **COPIES,
    },
    "researcher": {"custody.open": 0, "custody.verify": 0, "registry.read": 0},
    "auditor": {"custody.verify": 0, "registry.read": 0, "ledger.read": 0, "watermark.detect": 0},
    "service": {"custody.open": 0},
}


def certificate(role: Role, *, name: str = "x", purpose: str = "") -> Certificate:
    return Certificate(
        format="strongroom/certificate@1",
        home="h",
        name=name,
        role=role,
        purpose=purpose,
        keys=KEYS,
        lockbox="",
        passphrase_by="",
        status="active",
        serial=1,
        issued="",
        issuer="owner",
    )


@pytest.mark.parametrize("role", ROLES)
def test_every_role_may_what_the_table_says_and_nothing_else(role: Role) -> None:
    policy = Policy(default_text())
    who = certificate(role, purpose="serve" if role == "service" else "")
    asked = [Question(action, CHAT, "serve") for action in CHECKPOINT_ACTIONS]
    asked += [Question(action, None, "serve", "custody.export", "somebody") for action in HOME_ACTIONS]
    answers = {one.action: policy.approvals_needed(who, one) for one in asked}
    assert {action: needed for action, needed in answers.items() if needed is not None} == TABLE[role]


def test_a_service_opens_for_its_own_purpose_only() -> None:
    policy = Policy(default_text())
    service = certificate("service", purpose="serve")
    assert policy.permits(service, Question("custody.open", CHAT, "serve"))
    assert not policy.permits(service, Question("custody.open", CHAT, "train"))
    assert not policy.permits(certificate("service"), Question("custody.open", CHAT, ""))


def test_custodians_approve_exports_but_no_policy_and_nobody_approves_their_own() -> None:
    policy = Policy(default_text())
    carla = certificate("custodian", name="carla")
    assert policy.permits(carla, Question("access.approve", request="custody.export", requester="carl"))
    assert not policy.permits(carla, Question("access.approve", request="access.policy", requester="owner"))
    assert not policy.permits(carla, Question("access.approve", request="custody.export", requester="carla"))
    owner = certificate("owner", name="owner")
    assert not policy.permits(owner, Question("access.approve", request="access.policy", requester="owner"))


def test_a_disabled_principal_may_nothing() -> None:
    import msgspec

    gone = msgspec.structs.replace(certificate("owner"), status="disabled")
    assert Policy(default_text()).approvals_needed(gone, Question("access.add")) is None


@pytest.mark.parametrize(
    "text",
    [
        "permi",
        'permit(principal, action == Action::"custody.steal", resource);',
        'permit(principal in Role::"owner", action, resource) when { context.friends > 1 };',
    ],
)
def test_a_policy_that_does_not_fit_is_refused(text: str) -> None:
    with pytest.raises(PolicyInvalid):
        Policy(text)


def test_one_may_restrict_a_checkpoint_to_some_people() -> None:
    rule = 'forbid(principal, action == Action::"custody.open", resource) '
    rule += 'when { resource.name == "secret" && principal.name != "carla" };'
    policy = Policy(default_text() + rule)
    secret = Question("custody.open", CheckpointName("secret", "v1"))
    assert policy.permits(certificate("custodian", name="carla"), secret)
    assert not policy.permits(certificate("researcher", name="rosa"), secret)
    assert policy.permits(certificate("researcher", name="rosa"), Question("custody.open", CHAT))
