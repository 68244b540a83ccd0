"""``strongroom access``: people, sessions, requests, approvals, policy."""

from __future__ import annotations

import datetime as dt
import sys
from pathlib import Path

import click
from rich.console import Console

from strongroom.access.directory import Entrant
from strongroom.access.people import ROLES, Person, Role
from strongroom.access.people import check_role as known_role
from strongroom.access.policy import CHECKPOINT_ACTIONS, HOME_ACTIONS, Action, Question
from strongroom.access.recovery import recovery_keyring
from strongroom.access.requests import Request
from strongroom.cli.frame import Call, Group, Json, common, moment, plain, put, read_passphrase, readable, table
from strongroom.core.clock import stamp
from strongroom.core.errors import BadInput, BadName, NoSuchRequest, NotSigned, SessionExpired
from strongroom.core.ids import CheckpointName
from strongroom.ports.sessions import Session
from strongroom.wiring.serving import rewrap as rewrap_all
from strongroom.wiring.up import is_served

_CHOOSE = "Choose one of those that the message lists."

access = Group("access", help="Who may do what, and who else must agree.")


@access.command("add", epilog="Example: strongroom access add rosa --role researcher --new-passphrase-file p.txt")
@click.argument("name")
@click.option("--role", required=True, help=f"One of: {', '.join(ROLES)}.")
@click.option("--new-passphrase-file", metavar="FILE", help="The passphrase to start with; asked for otherwise.")
@click.option("--purpose", default="", help="What a service may open checkpoints for.")
@common
def add(call: Call, name: str, *, role: str, new_passphrase_file: str | None, purpose: str) -> None:
    """Add a person or service (an owner does). The passphrase counts as yours until its owner changes it."""
    kind = check_role(role)
    if (kind == "service") != bool(purpose):
        raise BadInput("a service needs --purpose, and nobody else has one", where="--purpose")
    owner = call.identity()
    passphrase = read_passphrase(new_passphrase_file, f"First passphrase of {name}", confirm=True)
    person = call.home.desk.add(Entrant(name, kind, passphrase, purpose), owner)
    wrapped, _ = rewrap_all(call.home, owner)
    call.emit(
        {"person": _person(person), "envelopes": wrapped},
        f"{name} is in, as {role}; {wrapped} checkpoints wrapped. The passphrase is known to you: "
        f"have {name} run `strongroom access passwd --as {name}`.",
    )


@access.command("people", epilog="Example: strongroom access people")
@common
def people(call: Call) -> None:
    """List who is in the home."""
    call.ask("registry.read")
    everybody = call.home.desk.people.everybody()

    certificates = [one.certificate for one in everybody]
    rows = [(one.name, one.role, one.status, moment(one.issued), one.purpose) for one in certificates]
    shown = table("name", "role", "status", "since", "purpose", rows=rows)
    call.emit({"people": [_person(one) for one in everybody]}, lambda out: out.print(shown))


@access.command("disable", epilog="Example: strongroom access disable rosa --as owner")
@click.argument("name")
@common
def disable(call: Call, name: str) -> None:
    """End somebody's rights at once, and delete the envelopes they hold."""
    owner = call.identity()
    person = call.home.desk.disable(name, owner)
    call.home.vault.withdraw(owner, name)
    call.emit(
        {"person": _person(person)},
        f"{name} may nothing any more. A key or a file that {name} took out before is beyond recall.",
    )


@access.command("login", epilog="Example: strongroom access login --as rosa")
@click.option("--minutes", type=click.IntRange(1, 7 * 24 * 60), help="How long; at most what the settings say.")
@common
def login(call: Call, *, minutes: int | None) -> None:
    """Hold your unlocked keys in a process of yours until they expire; nothing of them is on disk."""
    home = call.home
    who = home.desk.authenticate(*call.passphrase())
    most = home.settings.access.session_minutes
    lasting = dt.timedelta(minutes=min(minutes or most, most))
    expires = home.clock.now() + lasting
    home.desk.record_login(who, until=stamp(expires))
    home.sessions.start(Session(who.name, who.keyring.seed, expires.timestamp()))
    call.emit({"session": {"name": who.name, "expires": stamp(expires)}}, f"{who.name} is in until {stamp(expires)}.")


@access.command("logout", epilog="Example: strongroom access logout")
@common
def logout(call: Call) -> None:
    """End the session."""
    if not call.home.sessions.end():
        raise SessionExpired("there is no session to end", where="access logout")
    call.emit({"session": None}, "The session is over.")


@access.command("passwd", epilog="Example: strongroom access passwd --as rosa --new-passphrase-file new.txt")
@click.option("--new-passphrase-file", metavar="FILE", help="The new passphrase; asked for otherwise.")
@common
def passwd(call: Call, *, new_passphrase_file: str | None) -> None:
    """Change your own passphrase. The old one is asked for, even inside a session."""
    name, old = call.passphrase()
    new = read_passphrase(new_passphrase_file, f"New passphrase of {name}", confirm=True)
    with call.home.vault.renewing() as prepare:
        call.home.desk.change_passphrase(name, old, new, prepare=prepare)
    call.home.sessions.end()
    served = "\nIf you started `strongroom up`, stop it and start it again: it works with your former keys."
    words = f"{name}'s passphrase is changed.{served if is_served(call.home_path) else ''}"
    call.emit({"person": name, "passphrase": "changed"}, words)


@access.command("recover", epilog="Example: strongroom access recover rosa --recovery-key-file key.txt")
@click.argument("name")
@click.option("--recovery-key-file", required=True, metavar="FILE", help="A file with the key that `init` printed.")
@click.option("--new-passphrase-file", metavar="FILE", help="The new passphrase; asked for otherwise.")
@common
def recover(call: Call, name: str, *, recovery_key_file: str, new_passphrase_file: str | None) -> None:
    """Replace a lost passphrase with the recovery key. It counts as set by somebody else until NAME changes it."""
    recovery = recovery_keyring(read_passphrase(recovery_key_file, "Recovery key"))
    new = read_passphrase(new_passphrase_file, f"New passphrase of {name}", confirm=True)
    with call.home.vault.renewing() as prepare:
        call.home.desk.recover(name, recovery, new, prepare=prepare)
    call.emit({"person": name, "passphrase": "recovered"}, f"{name} has a new passphrase, and should change it now.")


@access.command("may", epilog="Example: strongroom access may custody.open chat:v1 --as rosa")
@click.argument("action", required=False)
@click.argument("object", required=False)
@click.option("--purpose", default="", help="The purpose to ask with.")
@common
def may(call: Call, action: str | None, object: str | None, *, purpose: str) -> None:  # noqa: A002 - the option's name
    """Tell whether you may do ACTION to OBJECT (NAME:TAG, or 'home'); without ACTION, everything that you may."""
    who = call.identity()
    checkpoint = None if object in {None, "home"} else CheckpointName.parse(str(object))
    if action is None:
        rights = call.home.desk.rights(who, checkpoint)
        lines = [f"{name}{'' if not needed else f'  (with {needed} approval)'}" for name, needed in rights.items()]
        call.emit({"who": who.name, "object": str(checkpoint or "home"), "may": rights}, "\n".join(lines))
        return
    question = Question(_action(action, checkpoint), checkpoint, purpose or who.certificate.purpose)
    needed = call.home.desk.may(who, question)
    words = {None: "no", 0: "yes"}.get(needed, f"yes, with {needed} approval by somebody else")
    call.emit({"who": who.name, "action": action, "may": needed is not None, "approvals": needed or 0}, words)


@access.command("requests", epilog="Example: strongroom access requests")
@common
def requests(call: Call) -> None:
    """List the requests that wait for a second person."""
    call.ask("registry.read")
    waiting = call.home.desk.approvals.open_requests()
    documents: list[Json] = [_request(call, one) for one in waiting]

    def show(out: Console) -> None:
        for one in waiting:
            _show_request(call, one, out)
        if not waiting:
            out.print("No request waits.")

    call.emit({"requests": documents}, show)


@access.command("approve", epilog="Example: strongroom access approve req_bdeef3b930a72151c668e0207b8696 --as owner")
@click.argument("request_id", metavar="ID")
@common
def approve(call: Call, request_id: str) -> None:
    """Give your signed consent to a request of somebody else. At a terminal, the request is shown first."""
    who = call.identity()
    if sys.stdin.isatty() and not call.as_json:
        _show_request(call, _waiting(call, request_id), call.err)
        if not click.confirm(f"Sign this as {who.name}?", err=True):
            raise NotSigned("not signed", where=request_id)
    approved = call.home.desk.approve(request_id, who)
    call.emit({"request": _request(call, approved)}, lambda out: _show_request(call, approved, out))


def _waiting(call: Call, request_id: str) -> Request:
    """Return the open request of that id, to be shown before it is signed.

    Raises:
        NoSuchRequest: there is none.

    """
    for one in call.home.desk.approvals.open_requests():
        if one.statement.request == request_id:
            return one
    raise NoSuchRequest("no open request of that id", where=request_id)


policy = Group("policy", help="Show or change the policy.")
access.add_command(policy)


@policy.command("show", epilog="Example: strongroom access policy show > policy.cedar")
@common
def policy_show(call: Call) -> None:
    """Print the policy in force, as Cedar text."""
    current = call.home.desk.rules.current()
    if call.as_json:
        call.emit({"digest": current.digest, "policy": current.text}, "")
    else:
        put(readable(current.text))


@policy.command("set", epilog="Example: strongroom access policy set policy.cedar --purpose 'freeze v1'")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--purpose", required=True, help="Why; the second owner sees it.")
@common
def policy_set(call: Call, file: Path, *, purpose: str) -> None:
    """Put the Cedar policy in FILE in force; a second owner must approve, a sole owner waits out the delay."""
    owner = call.identity()
    changed = call.home.desk.set_policy(_text(file), owner, why=purpose)
    wrapped, _ = rewrap_all(call.home, owner)
    call.emit({"digest": changed.digest, "envelopes": wrapped}, f"Policy {changed.digest[:12]} is in force.")


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        raise BadInput("not a readable UTF-8 text", where=str(file)) from None


def _action(name: str, checkpoint: CheckpointName | None) -> Action:
    """Return the action called `name`, with or without its room: ``custody.open`` or ``open``."""
    known: tuple[Action, ...] = HOME_ACTIONS if checkpoint is None else CHECKPOINT_ACTIONS
    if found := _meant(name, known):
        return found
    if checkpoint is None and (wanted := _meant(name, CHECKPOINT_ACTIONS)):
        message = f"{wanted} needs a checkpoint: give NAME:TAG"
        raise BadName(message, where="OBJECT", remedy=f"Repeat it as `strongroom access may {wanted} NAME:TAG`.")
    message = f"no action {name[:40]!r} on that object; there are {', '.join(known)}"
    raise BadName(message, where="ACTION", remedy=_CHOOSE)


def _meant(name: str, known: tuple[Action, ...]) -> Action | None:
    """Return the one of `known` that is called `name`, with or without its room."""
    return next((action for action in known if name in {action, action.partition(".")[2]}), None)


def check_role(text: str) -> Role:
    """Return `text` as a role.

    Raises:
        BadName: there is no such role.

    """
    try:
        return known_role(text)
    except BadName as error:
        raise BadName(error.message, where="--role", remedy=_CHOOSE) from None


def _person(person: Person) -> dict[str, Json]:
    certificate = person.certificate
    return {
        "name": certificate.name,
        "role": certificate.role,
        "status": certificate.status,
        "since": certificate.issued,
        "purpose": certificate.purpose,
        "fingerprint": certificate.keys.fingerprint(),
    }


def _request(call: Call, request: Request) -> dict[str, Json]:
    statement, wanted = request.statement, request.statement.wanted
    return {
        "id": statement.request,
        "requester": wanted.requester,
        "action": wanted.action,
        "object": wanted.object,
        "digest": wanted.digest,
        "destination": wanted.destination,
        "purpose": wanted.purpose,
        "host": wanted.host,
        "created": statement.created,
        "expires": statement.expires,
        "approvals": [one.approver for one in request.approvals],
        "notes": list(call.home.desk.approvals.notes(request)),
    }


def _show_request(call: Call, request: Request, out: Console) -> None:
    for name, value in _request(call, request).items():
        listed = "; ".join(str(item) for item in value) if isinstance(value, list) else value
        out.print(f"{name:>12}  {plain(listed)}", markup=False, soft_wrap=True)
    out.print()
