"""The projection attack over sockets: a stock server, a real gateway before it, and what comes through."""

from __future__ import annotations

import urllib.error
import urllib.request
from dataclasses import replace
from pathlib import Path

import pytest

project = pytest.importorskip("strongroom.attacks.project")

from strongroom.attacks.project_agreement import agreement  # noqa: E402 - after the skip
from strongroom.attacks.project_benign import benign  # noqa: E402
from strongroom.attacks.project_lab import ATTACKS, Attack, Lab  # noqa: E402
from strongroom.attacks.project_plans import Lifted, Plan, by_number  # noqa: E402
from strongroom.attacks.project_wire import Query  # noqa: E402
from strongroom.attacks.stock_server import KEY, Setup, serving  # noqa: E402
from tests.attacks.project_places import SIDE, WIDTH, lab_in  # noqa: E402


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Lab:
    return lab_in(tmp_path_factory.mktemp("places"))


def test_the_server_refuses_a_wrong_key_and_nothing_else(lab: Lab) -> None:
    def ask(path: str, body: bytes, key: str = KEY) -> int:
        request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", body, {"Authorization": f"Bearer {key}"})
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310 - as above
                return answer.status
        except urllib.error.HTTPError as error:
            return error.code

    with serving(Setup(str(lab.folder))) as (port, _):
        body = lab.codec.body(Query("chat", 3, ((5, 100.0),), 20)).encode()
        assert ask("/v1/chat/completions", body) == 200
        assert ask("/v1/chat/completions", body, "sk-other") == 401
        assert ask("/v1/nothing", body) == 404
        assert ask("/v1/chat/completions", b"{") == 400


@pytest.mark.parametrize(("name", "plan"), [("top-5", Lifted(5)), ("named-ids", by_number)])
def test_the_size_is_found_without_the_gateway_and_not_through_it(lab: Lab, name: str, plan: Plan) -> None:
    attack = Attack(name, plan, "tiny", SIDE)
    bare = lab.row(attack, "none", None)
    assert (bare.found, bare.estimate, bare.refused) == (True, WIDTH, 0)
    assert bare.gap > 10
    guarded = lab.row(attack, "standard", 10 * bare.queries)
    assert guarded.queries == 10 * bare.queries
    assert not guarded.found
    assert 1 <= guarded.first_refused <= 50
    assert guarded.seen < WIDTH


def test_vectors_tell_the_size_without_the_gateway_and_not_through_it(lab: Lab) -> None:
    attack = next(replace(one, model="tiny", side=SIDE) for one in ATTACKS if one.name == "embeddings")
    bare = lab.row(attack, "none", None)
    assert bare.found
    assert bare.layer is not None
    assert bare.layer < 1e-4  # the last layer, but for a linear map
    guarded = lab.row(attack, "trusted", 10 * bare.queries)
    assert guarded.layer is None
    assert (guarded.found, guarded.seen, guarded.estimate) == (False, WIDTH // 2, WIDTH // 2)


@pytest.mark.parametrize("tier", ["standard", "trusted"])
def test_a_real_gateway_does_what_the_policy_code_does(lab: Lab, tier: str) -> None:
    found = agreement(lab, tier, requests=150)
    assert (found.other_decision, found.other_values) == (0, 0)
    assert found.answered > 20
    assert found.refused > 20


@pytest.mark.parametrize("tier", ["standard", "trusted"])
def test_honest_requests_are_not_refused_and_not_changed(lab: Lab, tier: str) -> None:
    found = benign(lab, tier, requests=600)
    assert (found.refused, found.text_changed, found.unexplained) == (0, 0, 0)
    assert found.values > 100
    assert found.with_bias > 0
    assert found.embeddings == 60


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_the_trained_model_is_found_unguarded_and_not_through_the_gateway(tmp_path: Path) -> None:
    names = [one.name for one in ATTACKS if one.is_live]
    found = project.run(tmp_path, only=[*names, "benign"], progress=lambda *_: None)
    assert {row.attack for row in found.rows if row.found} == set(names)
    assert all(row.found == (row.guard == "none") for row in found.rows)
    assert all(row.refused == row.text_changed == row.unexplained == 0 for row in found.benign)
