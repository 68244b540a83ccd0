"""Every route of the control API, driven from its own description with what nobody means to send."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

from strongroom.console.openapi import document
from tests.journeys.serving import Service, up
from tests.journeys.test_up import served_home

schemathesis = pytest.importorskip("schemathesis")
pytest.importorskip("torch")
from schemathesis.specs.openapi.checks import positive_data_acceptance  # noqa: E402 - after the skip


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with up(served_home(tmp_path_factory.mktemp("fuzz"))) as running:
        yield running


schema = schemathesis.openapi.from_dict(json.loads(document()))


@schema.parametrize()
@settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))
def test_no_route_does_what_its_description_does_not_say(case: object, service: Service) -> None:
    token = (service.shell.home / "run" / "api-token").read_text()
    case.call_and_validate(  # type: ignore[attr-defined]
        base_url=service.ready["api"].removesuffix("/api"),
        headers={"Authorization": f"Bearer {token}"},
        timeout=20,
        excluded_checks=[positive_data_acceptance],  # a closed account, nothing to change: no schema can say that
    )
