"""``strongroom serving recall``: the window index that answers are compared with before they leave."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import click
from msgspec import to_builtins

from strongroom.cli.frame import Call, Group, Json, common, moment
from strongroom.cli.serving_limits import changed, reading
from strongroom.serving.recall.policy import ACTIONS, LONGEST_HOLD, MOST_INCIDENTS, TELLS, Policy, rules_of
from strongroom.serving.recalls import Attached
from strongroom.wiring.recall import attach
from strongroom.wiring.serving import serving_of

_DEFAULT: Final = Policy()
_MANY: Final = click.IntRange(0, MOST_INCIDENTS)

recall = Group("recall", help="Hold back what repeats the training text.")


@recall.command("attach", epilog="Example: strongroom serving recall attach corpus.windows --action resample")
@click.argument("index", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--action", type=click.Choice(ACTIONS), default=_DEFAULT.action, show_default=True,
              help="What becomes of an answer that repeats too much.")  # fmt: skip
@click.option("--hold", type=click.IntRange(0, LONGEST_HOLD), default=_DEFAULT.hold, show_default=True,
              help="Words that a stream lags behind.")  # fmt: skip
@click.option("--tell", type=click.Choice(TELLS), default=_DEFAULT.tell, show_default=True,
              help="Whether the client learns that something was held back.")  # fmt: skip
@click.option("--incidents-per-day", type=_MANY, default=_DEFAULT.incidents_per_day, show_default=True,
              help="Of an account, until it is shut out for the UTC day; 0: no limit.")  # fmt: skip
@click.option("--gathered", type=_MANY, default=_DEFAULT.gathered, show_default=True,
              help="Words of one document that an account may gather in pieces a day; 0: no limit.")  # fmt: skip
@common
def recall_attach(call: Call, index: Path, **options: str | int) -> None:
    """Compare answers with the window index in the folder INDEX from now on, in place of the one before.

    The gateway opens it by itself and looks after it: while it can't be had, no text is served.
    """
    who, rooms = call.identity(), serving_of(call.home)
    made = attach(rooms, who, index, policy=_policy(options))
    changed(call, {"recall": _document(made)}, f"Attached: {_words(made)}")


@recall.command("detach", epilog="Example: strongroom serving recall detach")
@common
def recall_detach(call: Call) -> None:
    """Compare answers with nothing any more."""
    who = call.identity()
    gone = serving_of(call.home).recalls.detach(who)
    changed(call, {"recall": None, "detached": gone.index}, f"{gone.index} is detached.")


@recall.command("show", epilog="Example: strongroom serving recall show")
@common
def recall_show(call: Call) -> None:
    """Show what answers are compared with, and what is done about those that repeat too much."""
    found = reading(call).recalls.current()
    if found is None:
        call.emit({"recall": None}, "No window index is attached.")
    else:
        call.emit({"recall": _document(found)}, _words(found))


def _policy(options: dict[str, str | int]) -> Policy:
    wanted = {name: value for name, value in options.items() if name in Policy.__struct_fields__}
    return Policy(**wanted)  # type: ignore[arg-type]


def _document(found: Attached) -> dict[str, Json]:
    shown: dict[str, Json] = to_builtins(found)
    return {**shown, "rules": to_builtins(rules_of(found.window, found.stride))}


def _words(found: Attached) -> str:
    policy, rules = found.policy, rules_of(found.window, found.stride)
    limit = f"{policy.incidents_per_day} a day" if policy.incidents_per_day else "no limit"
    return "\n".join(
        [
            f"{found.index}, windows of {found.window} words, every {found.stride}., since {moment(found.since)}",
            f"  folder      {found.folder}",
            f"  action      {policy.action}, told {policy.tell}ly",
            f"  held back   {policy.hold} words",
            f"  rules       {rules.run} words in a row of one document, {rules.broad} of any;",
            f"              {rules.hits} windows of one document in 100 words; any value",
            f"  in pieces   {policy.gathered} words of one document a day",
            f"  incidents   {limit}, for each account",
        ]
    )
