"""Limits at every scope, from the command line to two gateways behind one port, and what is told of them afterwards."""

from __future__ import annotations

import json
from contextlib import closing
from pathlib import Path

import pytest

from strongroom.wiring.exposure import look_back, raise_alarms
from strongroom.wiring.home import open_home
from strongroom.wiring.serving import serving_of
from tests.journeys.serving import up
from tests.journeys.test_up import served_home


@pytest.mark.slow
def test_limits_from_the_command_line_to_the_customer(tmp_path: Path) -> None:
    shell = served_home(tmp_path)
    with (shell.home / "strongroom.toml").open("a") as settings:
        settings.write("\n[serving]\nprompt_price = 1\nanswer_price = 2\negress_days_alarm = 1000000\n")

    def manage(*words: str) -> dict[str, object]:
        done = shell("serving", *words, who="carla")
        assert done.status == 0, done
        return done.json

    assert manage("org", "add", "globex", "--money-per-day", "0.0000001")["org"]
    assert manage("total", "limit", "--rpm", "5000")["total"] == {
        "requests": 5000, "streams": None, "tokens": None, "money": None, "embeddings": None,
    }  # fmt: skip
    with up(shell, "--gateways", "2") as service:
        assert set(service.ready["pids"]) == {"control", "engine", "worker", "gateway", "gateway-2"}
        service.account("acme", "--streams", "4")
        service.account("poor", "--org", "globex")
        made = manage("key", "add", "acme", "--rpm", "3")
        service.keys["slow"] = str(made["api_key"])
        came = [service.ask("slow") for _ in range(6)]
        assert [one.status for one in came].count(200) <= 3
        assert came[-1].code == "rate_limit_exceeded"
        assert "of the key" in str(came[-1].document)
        assert manage("key", "limit", str(made["id"]), "--rpm", "0")["in_force"]
        assert service.ask("slow").status == 200
        poor = service.ask("poor", max_tokens=100)
        assert poor.status == 200
        assert poor.document["choices"][0]["finish_reason"] == "length"
        assert 2 * poor.document["usage"]["completion_tokens"] < 100
        assert service.ask("poor", max_tokens=100).code == "money_per_day_exceeded"
        (tmp_path / "terms.md").write_text("Be kind.")
        manage("terms", "publish", str(tmp_path / "terms.md"))
        (tmp_path / "acme.key").write_text(service.keys["acme"])
        manage("terms", "accept", "--key-file", str(tmp_path / "acme.key"))
        proven = manage("terms", "proof", service.keys["acme.id"], "--out", str(tmp_path / "proof"))
        checked = shell("ledger", "check", str(tmp_path / "proof"), "--vkey", str(proven["vkey"]))
        assert checked.json["entry"]["detail"] == {"terms": proven["terms"], "version": 1}
        assert service.api("GET", "/total").document["requests"] == 5000
        assert [one["name"] for one in service.api("GET", "/orgs").document] == ["globex"]
        assert service.api("PATCH", "/orgs/globex", {"money_per_day": 0}).document["limits"]["money"] is None
        assert service.stop() == 0
    told = manage("usage", "--account", "poor")
    assert told["accounts"]["poor"]["money"] <= 100  # type: ignore[index]
    assert {one["code"] for one in manage("usage")["turned_away"]} >= {"rate_limit_exceeded"}  # type: ignore[index,attr-defined,union-attr]
    origins = {one["origin"] for one in manage("usage")["asked"]}  # type: ignore[index,attr-defined,union-attr]
    assert len(origins) == 1
    assert len(origins.pop()) == 16
    shown = manage("account", "show", "poor")["account"]
    assert shown["org"] == "globex"  # type: ignore[index]
    assert shown["exposure"]["bytes_today"] > 0  # type: ignore[index]
    with closing(open_home(shell.home)) as home:
        rooms = serving_of(home)
        raised = raise_alarms(rooms, look_back(rooms), who="process:worker")
        assert raise_alarms(rooms, look_back(rooms), who="process:worker") == 0  # once a day
    alarms = {one["object"] for one in manage("usage")["alarms"]}  # type: ignore[index,attr-defined,union-attr]
    assert alarms >= {"serving", "account:acme", "account:poor"}
    assert raised <= len(alarms)
    proved = shell("serving", "prove-limits", who="carla")
    assert proved.status == 0, json.dumps(proved.json)[:2000]
    assert {"streams/account/acme", "requests/total/"} <= {one["name"] for one in proved.json["limits"]}


@pytest.mark.slow
def test_a_limit_of_money_without_prices_is_said_to_be_inert(tmp_path: Path) -> None:
    shell = served_home(tmp_path)
    assert shell("serving", "total", "limit", "--money-per-day", "1", who="carla").status == 0
    proved = shell("serving", "prove-limits", who="carla")
    assert proved.status == 1
    assert [one["name"] for one in proved.json["limits"] if not one["bites"]] == ["money/total/"]
