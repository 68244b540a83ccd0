"""``strongroom serving policy``: what answers may give away beside text, and what one request would be refused for."""

from __future__ import annotations

import http
from pathlib import Path
from typing import Final

import click
import msgspec
from msgspec import to_builtins

from strongroom.access.policy import Question
from strongroom.cli.frame import Call, Group, Json, common
from strongroom.core.errors import BadInput, InputTooLarge, RefusedError
from strongroom.serving.disclosure.fields import FIELDS, PATHS, RULES
from strongroom.serving.disclosure.tiers import BESIDE_LOGPROBS, FIRST, TIERS, Tier, tier_of
from strongroom.serving.policy import METHODS, Finding, check, fields_of
from strongroom.wiring.serving import serving_of

_MOST: Final = 4 << 20  # bytes of a request's file
_METHODS: Final = frozenset(one.value for one in http.HTTPMethod)

policy = Group("policy", help="What answers may give away beside text: tiers, paths, fields.")


class _Request(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A request, as a file has it. `body` is read as the gateway would read it."""

    method: str
    path: str
    body: msgspec.Raw = msgspec.Raw(b"")


@policy.command("show", epilog="Example: strongroom serving policy show")
@common
def policy_show(call: Call) -> None:
    """Show the tiers, the paths and fields that are taken, and what is known to be dangerous and why it is refused."""
    tiers: list[Json] = [to_builtins(one) for one in TIERS.values()]
    paths: list[Json] = [
        {"path": path, "methods": list(methods), "fields": list(fields_of(path))} for path, methods in METHODS.items()
    ]
    document: dict[str, Json] = {
        "tiers": tiers,
        "first": FIRST,
        "bias_beside_logprobs": BESIDE_LOGPROBS,
        "paths": paths,
        "refused": {"fields": dict(FIELDS), "paths": dict(PATHS)},
        "rules": dict(RULES),
    }
    call.emit(document, _words())


@policy.command("check", epilog="Example: strongroom serving policy check request.json --account acme")
@click.argument("request", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--account", metavar="NAME", help=f"Judge by this account's tier. Else by {FIRST}, a new account's.")
@common
def policy_check(call: Call, request: Path, *, account: str | None) -> int:
    """Say what the request in the file REQUEST would be refused for: everything, not only the first thing."""
    asked = _read(request)
    tier = TIERS[FIRST] if account is None else _tier(call, account)
    found = check(asked.method, asked.path, bytes(asked.body), tier=tier)
    refused: list[Json] = [to_builtins(one) for one in found]
    call.emit({"allowed": not found, "refused": refused}, _verdict(found, tier))
    return RefusedError.exit_status if found else 0


def _tier(call: Call, account: str) -> Tier:
    who = call.identity()
    call.home.desk.require(who, Question("serving.manage"))
    return tier_of(serving_of(call.home).accounts.find(account).tier)


def _read(file: Path) -> _Request:
    """Return the request that a file holds.

    Raises:
        BadInput: it holds none.
        InputTooLarge: it is larger than any request that is taken.

    """
    try:
        with file.open("rb") as stream:
            raw = stream.read(_MOST + 1)
    except OSError as error:
        raise BadInput(f"can't be read ({error.strerror})", where=str(file)) from None
    if len(raw) > _MOST:
        raise InputTooLarge(f"a request has at most {_MOST} bytes", where=str(file))
    form = 'a request is {"method": "POST", "path": "/v1/…", "body": {…}}'
    try:
        asked = msgspec.json.decode(raw, type=_Request)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        raise BadInput(form, where=str(file)) from None
    if asked.method not in _METHODS or not asked.path.startswith("/"):
        raise BadInput(form, where=str(file))
    return asked


def _verdict(found: tuple[Finding, ...], tier: Tier) -> str:
    if not found:
        return f"Allowed in tier {tier.name}, as far as its words go: limits and counts are not looked at."
    lines = [f"  {one.field}: {one.rule}. {RULES[one.rule]}" for one in found]
    return "\n".join([f"REFUSED in tier {tier.name}:", *lines])


def _words() -> str:
    lines = [_tier_words(one) for one in TIERS.values()]
    lines += ["", f"Beside log probabilities a bias is {BESIDE_LOGPROBS:g} at most, in every tier.", "", "Taken:"]
    lines += [
        f"  {' '.join(methods)} {path}" + (f": {', '.join(fields_of(path))}" if fields_of(path) else "")
        for path, methods in METHODS.items()
    ]
    lines += [
        "",
        f"All else is refused; known for what they are, {len(FIELDS)} fields and {len(PATHS)} paths (--json).",
    ]
    return "\n".join(lines)


def _tier_words(one: Tier) -> str:
    shown = (
        f"{one.top_logprobs} likeliest, {one.decimals} decimals, noise {one.noise:g}"
        if one.top_logprobs >= 0
        else "none"
    )
    bias = f"{one.biased} tokens up to {one.bias:g}, {one.bias_sets} sets a prompt, {one.bias_sets_a_day} a day"
    return (
        f"{one.name}\n"
        f"  log probabilities  {shown}\n"
        f"  bias               {bias if one.biased else 'none'}\n"
        f"  answers            {one.answers}\n"
        f"  embeddings         {'yes' if one.embeddings else 'no'}\n"
        f"  fine-tuning        {'yes' if one.fine_tuning else 'no'}\n"
        f"  reasoning          {one.reasoning}"
    )
