"""A home's customers over real stores."""

from __future__ import annotations

import pytest

from strongroom.access.deeds import Deeds
from strongroom.serving.accounts import SERVING, Accounts
from tests.access import conftest
from tests.access.office import Office

office = conftest.office


@pytest.fixture
def deeds(office: Office) -> Deeds:
    return Deeds(office.records, office.journal, office.desk, series=SERVING, home="home_test")


@pytest.fixture
def accounts(office: Office, deeds: Deeds) -> Accounts:
    return Accounts(deeds, office.journal)
