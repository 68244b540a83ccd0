"""What a checkpoint was trained on: stated, inherited, and what a policy then demands of custody."""

from __future__ import annotations

import json
from contextlib import closing
from pathlib import Path

import pytest

from strongroom.access.policy import default_text
from strongroom.cli.frame import read_passphrase
from strongroom.core.errors import Busy
from strongroom.core.ids import CheckpointName
from strongroom.custody.corpora import Classification, Corpus
from strongroom.wiring.home import open_home
from tests.journeys.shell import Shell, model_folder

CORPUS = ("--licence", "proprietary", "--consent", "contract", "--jurisdiction", "DE", "--jurisdiction", "US-CA")
STRICTER = """
@id("restricted-weights-take-two")
forbid (principal, action == Action::"custody.open", resource)
when { resource.classification == "restricted" && context.approvals < 1 };
@id("restricted-weights-are-not-for-researchers")
forbid (principal in Role::"researcher", action, resource is Checkpoint)
when { resource.classification == "restricted" };
@id("custodians-approve-opening")
permit (principal in Role::"custodian", action == Action::"access.approve", resource)
when { context.request == "custody.open" };
"""


@pytest.fixture
def house(sealed: Shell, tmp_path: Path) -> Shell:
    """Return a home with a base, chat:v1, and what was made from it, chat:v2; and a policy that looks at classes."""
    assert sealed("custody", "seal", str(model_folder(tmp_path / "tuned", seed=2)), "chat:v2", who="carla").status == 0
    new = ("access", "add", "olga", "--role", "owner", "--new-passphrase-file", str(sealed.passphrase("olga")))
    assert sealed(*new, who="owner").status == 0
    (tmp_path / "policy.cedar").write_text(default_text() + STRICTER)
    change = ("access", "policy", "set", str(tmp_path / "policy.cedar"), "--purpose", "classes")
    asked = sealed(*change, who="owner")
    assert sealed("access", "approve", asked.json["error"]["where"], who="olga").status == 0
    assert sealed(*change, who="owner").status == 0
    return sealed


def stated(shell: Shell, title: str, *words: str, who: str = "carla") -> dict[str, object]:
    said = shell("custody", "corpus", "add", title, *words, who=who)
    assert said.status == 0, said.err
    return said.json


def report(place: Path, **changed: object) -> str:
    document = {"type": "strongroom/filter-report@1", "documents": 7, "findings": {"email": 3}, "more": 1} | changed
    file = place / "filter-report.json"
    file.write_text(json.dumps(document))
    return str(file)


def test_the_strictest_class_counts_and_is_inherited(house: Shell, tmp_path: Path) -> None:
    assert house("custody", "corpus", "show", "chat:v1").json["classification"] == ""
    filtered = ("--report", report(tmp_path))
    said = stated(house, "chat:v1", "--name", "web", "--class", "internal", *CORPUS, *filtered)
    assert (said["classification"], said["because"], said["complete"]) == ("internal", "corpus web", True)
    corpus = said["corpora"][0]
    assert (corpus["documents"], corpus["findings"], len(corpus["report"])) == (7, {"email": 3}, 64)
    said = stated(house, "chat:v2", "--parent", "chat:v1", "--name", "notes", "--class", "public", *CORPUS, *filtered)
    assert (said["classification"], said["because"]) == ("internal", "chat:v1 (corpus web)")
    stated(house, "chat:v1", "--name", "mails", "--class", "restricted", *CORPUS)
    said = house("custody", "corpus", "show", "chat:v2").json
    assert (said["classification"], said["because"]) == ("restricted", "chat:v1 (corpus mails)")
    assert house("custody", "show", "chat:v2").json["classification"] == "restricted"
    assert house("ledger", "tail").out.count('"object": "training:chat:v') == 3


def test_what_is_not_known_is_told(house: Shell) -> None:
    said = stated(house, "chat:v2", "--parent", "chat:v1", "--name", "notes", "--class", "confidential", *CORPUS)
    assert (said["classification"], said["complete"]) == ("confidential", False)
    mild = house("custody", "corpus", "add", "chat:v1", "--name", "w", "--class", "public", *CORPUS, who="carla")
    assert (mild.status, mild.code) == (2, "usage.bad_input")
    for words in (("--name", "w"), ("--parent", "nobody:v1"), ("--parent", "chat:v1"), ()):
        assert house("custody", "corpus", "add", "chat:v1", *words, who="carla").status in {2, 5}, words
    assert house("custody", "corpus", "add", "none:v1", "--parent", "chat:v1", who="carla").status == 5
    assert house("custody", "corpus", "add", "chat:v1", "--parent", "chat:v2", who="rosa").status == 3


def test_a_policy_demands_more_for_a_class(house: Shell) -> None:
    opened = ("custody", "digest", "chat:v1")
    assert house(*opened, who="carla").status == house(*opened, who="rosa").status == 0
    stated(house, "chat:v1", "--name", "mails", "--class", "restricted", *CORPUS)
    assert house(*opened, who="rosa").code == "access.not_permitted"
    asked = house(*opened, who="carla")
    assert asked.code == "access.approval_needed"
    assert house("access", "approve", asked.json["error"]["where"], who="carl").status == 0
    assert house(*opened, who="carla").status == 0
    assert house(*opened, who="carla").code == "access.approval_needed"
    may = house("access", "may", "custody.open", "chat:v1", who="carla").json
    assert (may["may"], may["approvals"]) == (True, 1)
    assert not house("access", "may", "custody.open", "chat:v1", who="rosa").json["may"]
    assert house("custody", "rewrap", "chat:v1", who="carla").status == 0
    assert "rosa" not in house("custody", "show", "chat:v1").json["holders"]


def test_sealing_anew_does_not_shed_a_class(house: Shell, tmp_path: Path) -> None:
    stated(house, "chat:v1", "--name", "mails", "--class", "restricted", *CORPUS)
    assert house("custody", "seal", str(model_folder(tmp_path / "again", seed=3)), "chat:v1", who="carla").status == 0
    assert house("custody", "corpus", "show", "chat:v1").json["classification"] == "restricted"
    assert house("custody", "digest", "chat:v1", who="rosa").code == "access.not_permitted"


def test_a_milder_class_takes_two(house: Shell) -> None:
    stated(house, "chat:v1", "--name", "mails", "--class", "restricted", *CORPUS)
    stated(house, "chat:v1", "--name", "web", "--class", "confidential", *CORPUS)
    milder = ("custody", "corpus", "add", "chat:v1", "--name", "mails", "--class", "confidential", *CORPUS)
    asked = house(*milder, who="carla")
    assert asked.code == "access.approval_needed"
    # what was approved is this statement, and no other that is milder
    assert house("custody", "corpus", "remove", "chat:v1", "mails", who="carla").code == "access.approval_altered"
    asked = house(*milder, who="carla")
    assert asked.code == "access.approval_needed"
    assert house("access", "approve", asked.json["error"]["where"], who="carla").code == "access.self_approval"
    assert house("custody", "corpus", "show", "chat:v1").json["classification"] == "restricted"
    assert house("access", "approve", asked.json["error"]["where"], who="carl").status == 0
    said = stated(house, "chat:v1", "--name", "mails", "--class", "confidential", *CORPUS)
    assert said["classification"] == "confidential"
    gone = house("custody", "corpus", "remove", "chat:v1", "never", who="carla")
    assert (gone.status, gone.code) == (2, "usage.bad_input")


def test_checkpoints_that_are_said_to_be_made_from_each_other(house: Shell) -> None:
    stated(house, "chat:v1", "--parent", "chat:v2")
    stated(house, "chat:v2", "--parent", "chat:v1", "--name", "mails", "--class", "restricted", *CORPUS)
    for title in ("chat:v1", "chat:v2"):
        assert house("custody", "corpus", "show", title).json["classification"] == "restricted"


def test_a_statement_that_is_gone_opens_nothing(house: Shell) -> None:
    stated(house, "chat:v1", "--name", "mails", "--class", "confidential", *CORPUS)
    import sqlite3

    with sqlite3.connect(house.home / "records.sqlite3") as records:
        assert records.execute("DELETE FROM records WHERE kind = 'deed' AND key LIKE 'training:%'").rowcount == 1
    assert house("custody", "digest", "chat:v1", who="carla").code == "records.altered"


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"type":"x","documents":1,"findings":{}}'])
def test_what_is_no_report(house: Shell, tmp_path: Path, text: str) -> None:
    file = tmp_path / "report"
    file.write_text(text)
    words = ("--name", "web", "--class", "public", *CORPUS, "--report", str(file))
    said = house("custody", "corpus", "add", "chat:v1", *words, who="carla")
    assert (said.status, said.code) == (2, "usage.bad_input")


def test_of_two_statements_at_once_none_is_lost(house: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stricter corpus that is stated meanwhile is not written over by a statement that had not seen it."""
    stated(house, "chat:v1", "--name", "web", "--class", "confidential", *CORPUS)
    title = CheckpointName("chat", "v1")
    with closing(open_home(house.home)) as home:
        carla = home.desk.authenticate("carla", read_passphrase(str(house.passphrase("carla")), "carla"))
        judge = home.corpora.classification

        def meanwhile(asked: CheckpointName) -> Classification:
            found = judge(asked)
            stated(house, "chat:v1", "--name", "mails", "--class", "restricted", *CORPUS, who="carl")
            return found

        monkeypatch.setattr(home.corpora, "classification", meanwhile)
        notes = Corpus(name="notes", class_="confidential", licence="x", consent="none", jurisdictions=("DE",))
        with pytest.raises(Busy):
            home.corpora.add(carla, title, 1, corpus=notes, parents=())
    assert house("custody", "corpus", "show", "chat:v1").json["classification"] == "restricted"
