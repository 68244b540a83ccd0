"""Pages say what the code says: every error, setting, command, link and figure."""

from __future__ import annotations

import re
from pathlib import Path

import click
import msgspec
import pytest

from strongroom.access.people import ROLES, Certificate
from strongroom.access.policy import CHECKPOINT_ACTIONS, HOME_ACTIONS, Policy, Question, default_text
from strongroom.core import copy_errors, errors, privacy_errors, serving_errors
from strongroom.core.errors import StrongroomError
from strongroom.core.ids import CheckpointName
from strongroom.core.settings import Settings
from strongroom.core.settings import parse as parse_settings
from tests.docs.pages import COMMON, PAGES, ROOT, commands_in, fences, leaves, page, parse, rows, section

MODULES = (errors.__name__, serving_errors.__name__, copy_errors.__name__, privacy_errors.__name__)
LEAVES = dict(leaves())


# ── errors ───────────────────────────────────────────────────────────────────────────────────────────────────────────
def _tree(kind: type[StrongroomError]) -> list[type[StrongroomError]]:
    below = [one for one in kind.__subclasses__() if one.__module__ in MODULES]
    return [*below, *(deep for one in below for deep in _tree(one))]


def test_every_error_is_on_its_page_under_its_exit_status() -> None:
    told: dict[str, tuple[list[str], int]] = {}
    for title, status in re.findall(r"^## (.*: exit status (\d+))$", page("docs/errors.md"), re.MULTILINE):
        for cells in rows(section(page("docs/errors.md"), title)):
            told[cells[0].strip("`")] = (cells[1:], int(status))
    tree = _tree(StrongroomError)
    assert set(told) == {one.code for one in tree}
    for one in tree:
        meaning = (one.__doc__ or "").strip().splitlines()[0]
        assert told[one.code] == ([f"`{one.__name__}`", meaning, one.remedy], one.exit_status)


def test_the_tree_drawn_in_the_module_has_every_error() -> None:
    drawn = set(re.findall(r"\w+", errors.__doc__ or ""))
    assert {one.__name__ for one in _tree(StrongroomError)} <= drawn
    codes = [one.code for one in _tree(StrongroomError)]
    assert len(codes) == len(set(codes))


def test_every_exit_status_is_explained() -> None:
    explained = {cells[0] for cells in rows(page("docs/errors.md")) if cells[0].isdigit()}
    assert {str(one.exit_status) for one in _tree(StrongroomError)} | {"0", "1", "141"} == explained


# ── settings ─────────────────────────────────────────────────────────────────────────────────────────────────────────
def test_every_setting_is_on_its_page_with_type_and_default() -> None:
    told = {cells[0].strip("`"): (cells[1], cells[2]) for cells in rows(page("docs/settings.md")) if len(cells) == 4}
    known: dict[str, str] = {}
    for part in msgspec.structs.fields(Settings):
        for key in msgspec.structs.fields(part.type):
            known[f"{part.name}.{key.name}"] = f"`{key.default}`" if key.default != "" else "(empty)"
            assert (told[f"{part.name}.{key.name}"][0].startswith("integer")) == (key.type is int)
    assert {key: default for key, (_, default) in told.items()} == known


def test_the_example_settings_are_read() -> None:
    (example,) = fences(page("docs/settings.md"), "toml")
    settings = parse_settings(example, where="example")
    assert settings.access.session_minutes == 60


# ── commands ─────────────────────────────────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize("name", LEAVES)
def test_every_command_has_help_and_an_example_that_parses(name: str) -> None:
    command = LEAVES[name]
    assert command.help
    epilog = command.epilog or ""
    assert epilog.startswith(f"Example: strongroom {name}")
    for words in commands_in(epilog):
        parse(words)
    for option in command.params:
        assert not isinstance(option, click.Option) or option.help, option.name


@pytest.mark.parametrize("name", LEAVES)
def test_every_command_is_on_the_page_with_its_example_and_options(name: str) -> None:
    command = LEAVES[name]
    told = section(page("docs/commands.md"), name)
    assert (command.help or "").strip().splitlines()[0] in " ".join(told.split())
    assert (command.epilog or "").removeprefix("Example: ") in told
    options = {word for one in command.params if isinstance(one, click.Option) for word in one.opts}
    listed = {word.strip("` ") for cells in rows(told) for word in cells[0].split(",")}
    assert listed == options - COMMON


def test_the_page_has_no_command_that_is_not_there() -> None:
    headings = set(re.findall(r"^##+ ([a-z].*)$", page("docs/commands.md"), re.MULTILINE))
    groups = {name.split()[0] for name in LEAVES if " " in name}
    assert headings == set(LEAVES) | groups


@pytest.mark.parametrize("path", PAGES, ids=[str(path.relative_to(ROOT)) for path in PAGES])
def test_every_command_in_a_shell_block_parses(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    for block in [*fences(text, "sh"), *fences(text, "sh tour")]:
        for words in commands_in(block):
            parse(words)


@pytest.mark.parametrize(
    "wrong", ["custody steal x:y", "custody verify", "custody ls --al", "ledger tail 5", "custody"]
)
def test_a_wrong_command_is_noticed(wrong: str) -> None:
    with pytest.raises((AssertionError, click.UsageError)):
        parse(wrong.split())


# ── links, paths, order ──────────────────────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize("path", PAGES, ids=[str(path.relative_to(ROOT)) for path in PAGES])
def test_links_resolve(path: Path) -> None:
    for link in re.findall(r"\]\(([^)\s]+)\)", path.read_text(encoding="utf-8")):
        if not link.startswith("https://"):
            assert "#" not in link, f"{link}: name a page, headings move"
            assert (path.parent / link).exists(), link


@pytest.mark.parametrize("path", PAGES, ids=[str(path.relative_to(ROOT)) for path in PAGES])
def test_no_page_names_a_machine_or_a_registry(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    found = re.findall(r"/w[o]rk/|/t[m]p/|/r[o]ot/|/h[o]me/\w|py[p]i\.org|python[h]osted|local[h]ost", text)
    assert found == []


def test_the_contents_list_every_page() -> None:
    linked = {(ROOT / "docs" / link).resolve() for link in re.findall(r"\]\(([^)]+\.md)\)", page("docs/index.md"))}
    assert linked == set(PAGES) - {ROOT / "docs" / "index.md"}


def test_decisions_are_numbered_without_gaps_and_name_their_price() -> None:
    pages = sorted((ROOT / "docs" / "decisions").glob("*.md"))
    assert [int(path.name[:4]) for path in pages] == list(range(1, len(pages) + 1))
    for path in pages:
        assert re.search(r"^(Bad:|\*\*What it costs\.\*\*)$", path.read_text(), re.MULTILINE), path.name


# ── access ───────────────────────────────────────────────────────────────────────────────────────────────────────────
def test_every_role_and_action_is_in_the_chapter() -> None:
    chapter = page("docs/access.md")
    for word in (*ROLES, *HOME_ACTIONS, *CHECKPOINT_ACTIONS):
        assert f"`{word}`" in chapter, word


def test_the_example_policy_fits_the_schema_and_bites() -> None:
    classes, example = fences(page("docs/access.md"), "cedar")
    assert Policy(default_text() + classes).text.count("classification") == 2
    policy = Policy(default_text() + example)
    fresh = {"format": "strongroom/certificate@1", "home": "h", "role": "researcher", "purpose": "", "status": "active"}
    keys = {"sign": "", "receive": ""}

    def may(name: str, title: str) -> bool:
        document = {**fresh, "name": name, "keys": keys, "serial": 1, "issued": "", "issuer": "owner"} | {
            "lockbox": "",
            "passphrase_by": "",
        }
        who = msgspec.convert(document, Certificate)
        return policy.permits(who, Question("custody.open", CheckpointName.parse(title)))

    assert may("rosa", "frontier:v1")
    assert not may("ruth", "frontier:v1")
    assert may("ruth", "chat:v1")
