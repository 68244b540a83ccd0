"""Every error that Strongroom raises across a package border, in one tree.

    StrongroomError                     exit 1
    ├── UsageError                      exit 2   the call's words are off
    │   ├── BadName · BadSettings · BadInput · PassphraseUnreadable
    ├── RefusedError                    exit 3   who or what may not
    │   ├── WrongPassphrase · UnknownPrincipal · PrincipalDisabled · PrincipalAltered · SessionExpired
    │   ├── NotPermitted · PurposeMismatch · PolicyInvalid · WrongRecoveryKey
    │   ├── ApprovalNeeded · SelfApproval · ApprovalExpired · ApprovalConsumed · ApprovalAltered
    │   └── UntrustedCode
    ├── TamperError                     exit 4   stored bytes are not what was stored
    │   ├── ManifestMissing · ManifestAltered · SignatureInvalid · PayloadMissing · PayloadTruncated
    │   ├── PayloadExtended · HeaderAltered · SegmentAltered · SegmentForged · NotSealed · WrongCheckpoint
    │   ├── RolledBack · WrongKey
    │   └── LedgerAltered · LedgerTruncated · LedgerForked · LedgerRolledBack · ProofInvalid · RecordAltered
    ├── NotFoundError                   exit 5   no such thing
    │   ├── NoHome · NoSuchCheckpoint · NoSuchRequest · NoSuchEntry
    ├── ConflictError                   exit 6   the thing is there already, or is busy
    │   ├── AlreadyExists · AlreadyClaimed · Busy · HomeVersion
    ├── StorageError                    exit 7   the disk or the server said no
    │   ├── DiskFull · StoreUnavailable · LedgerUnavailable
    ├── LimitError                      exit 8   larger than a stated limit
    │   └── EntryTooLarge · InputTooLarge
    └── MissingExtra                    exit 9   an optional part is not installed

A leaf carries a stable ``code``, an exit status and a default ``remedy``; the one who raises it says ``where`` and the
``message``. Messages name things and places, never contents, keys or passphrases (rule 9).
"""

from __future__ import annotations

from typing import ClassVar


class StrongroomError(Exception):
    """The root: an error with a stable code, a place, a message, a remedy and an exit status."""

    code: ClassVar[str] = "strongroom.error"
    exit_status: ClassVar[int] = 1
    remedy: ClassVar[str] = "Report this with the command that led to it."

    def __init__(self, message: str, *, where: str, remedy: str | None = None) -> None:
        """Say what happened (`message`), at which file, object or option (`where`), and what to do about it."""
        super().__init__(message)
        self.message = message
        self.where = where
        self.advice = self.remedy if remedy is None else remedy

    def document(self) -> dict[str, str]:
        """Return the error as the JSON object that the command line prints under ``error``."""
        return {"code": self.code, "where": self.where, "message": self.message, "remedy": self.advice}


# ── usage ────────────────────────────────────────────────────────────────────────────────────────────────────────────
class UsageError(StrongroomError):
    """The call's words are off."""

    code = "usage"
    exit_status = 2
    remedy = "See --help of the command."


class BadName(UsageError):
    """A name, tag or id is not of the allowed form."""

    code = "usage.bad_name"
    remedy = "Use letters, digits, '.', '_' and '-', starting with a letter or digit; a checkpoint is NAME:TAG."


class BadSettings(UsageError):
    """strongroom.toml has an unknown key or a value of the wrong type."""

    code = "usage.bad_settings"
    remedy = "Correct strongroom.toml; docs/settings.md lists every key."


class BadInput(UsageError):
    """A file given as input is not what it should be."""

    code = "usage.bad_input"
    remedy = "Give a file of the form that the command's documentation names."


class PassphraseUnreadable(UsageError):
    """No passphrase could be read: no file, an empty one, or no terminal to ask at."""

    code = "usage.passphrase_unreadable"
    remedy = "Give --passphrase-file FILE (one line, not empty), or run at a terminal."


# ── refused ──────────────────────────────────────────────────────────────────────────────────────────────────────────
class RefusedError(StrongroomError):
    """The one who asks may not have it."""

    code = "refused"
    exit_status = 3
    remedy = "Ask an owner of the home."


class WrongPassphrase(RefusedError):
    """The passphrase does not open this principal's keys."""

    code = "access.wrong_passphrase"
    remedy = "Try again with the right passphrase; the recovery key can set a new one (access recover)."


class WrongRecoveryKey(RefusedError):
    """The recovery key is not the one that was printed at init."""

    code = "access.wrong_recovery_key"
    remedy = "Give the recovery key exactly as `strongroom init` printed it."


class UnknownPrincipal(RefusedError):
    """Nobody of that name is in the home."""

    code = "access.unknown_principal"
    remedy = "`strongroom access people` lists who is in the home; an owner adds people with `access add`."


class PrincipalDisabled(RefusedError):
    """The principal was disabled by an owner."""

    code = "access.principal_disabled"
    remedy = "An owner must add the person anew; a disabled account never acts again."


class PrincipalAltered(RefusedError):
    """A principal's record does not match its certificate or the ledger."""

    code = "access.principal_altered"
    remedy = "Somebody changed the records outside Strongroom: restore the home from a backup and find out who."


class SessionExpired(RefusedError):
    """The session of `access login` has ended."""

    code = "access.session_expired"
    remedy = "Run `strongroom access login` again."


class NotPermitted(RefusedError):
    """The policy does not allow this principal that action on that object."""

    code = "access.not_permitted"
    remedy = "`strongroom access may` lists what you may do; owners change the policy."


class PurposeMismatch(RefusedError):
    """A service asked for another purpose than the one that it is registered for."""

    code = "access.purpose_mismatch"
    remedy = "Name the purpose that the service was added with."


class PolicyInvalid(RefusedError):
    """The policy file does not parse or does not fit the schema."""

    code = "access.policy_invalid"
    remedy = "Correct the Cedar text; docs/access.md describes the schema."


class ApprovalNeeded(RefusedError):
    """The action needs a second person, who has not approved yet."""

    code = "access.approval_needed"
    remedy = "Have another owner or custodian run `strongroom access approve ID`, then repeat the command."


class SelfApproval(RefusedError):
    """Somebody tried to approve their own request."""

    code = "access.self_approval"
    remedy = "Somebody else must approve it."


class ApprovalExpired(RefusedError):
    """The request or its approval is past its expiry."""

    code = "access.approval_expired"
    remedy = "Repeat the command to leave a new request, and have it approved in time."


class ApprovalConsumed(RefusedError):
    """The approval has been used; it works once."""

    code = "access.approval_consumed"
    remedy = "Repeat the command to leave a new request."


class ApprovalAltered(RefusedError):
    """The approval does not fit what is asked: object, destination, host or policy changed, or its signature is bad."""

    code = "access.approval_altered"
    remedy = "Leave a new request for what is wanted now, and have that approved."


class UntrustedCode(RefusedError):
    """A checkpoint asks for code of its own, or of a third party, to be run."""

    code = "engine.untrusted_code"
    remedy = "Use a checkpoint of an architecture that transformers itself ships: no model's code is ever run."


# ── tampering ────────────────────────────────────────────────────────────────────────────────────────────────────────
class TamperError(StrongroomError):
    """Stored bytes are not the bytes that were stored."""

    code = "tamper"
    exit_status = 4
    remedy = "Do not use this copy: restore it from a backup, and find out who could write there."


class ManifestMissing(TamperError):
    """A sealed checkpoint has no manifest."""

    code = "custody.manifest_missing"


class ManifestAltered(TamperError):
    """The manifest does not parse, or is not the one that the ledger recorded."""

    code = "custody.manifest_altered"


class SignatureInvalid(TamperError):
    """The manifest's signature is missing, of an unknown signer, or does not verify."""

    code = "custody.signature_invalid"


class PayloadMissing(TamperError):
    """A sealed file that the manifest names is not there."""

    code = "custody.payload_missing"


class PayloadTruncated(TamperError):
    """A sealed file is shorter than its manifest says."""

    code = "custody.payload_truncated"


class PayloadExtended(TamperError):
    """A sealed file is longer than its manifest says, or a file stands there that the manifest does not name."""

    code = "custody.payload_extended"


class HeaderAltered(TamperError):
    """A sealed file's header is not the one that was sealed."""

    code = "custody.header_altered"


class SegmentAltered(TamperError):
    """A segment's ciphertext is not the one that the signed manifest names."""

    code = "custody.segment_altered"


class SegmentForged(TamperError):
    """A segment fits the manifest, but does not decrypt under its key and place."""

    code = "custody.segment_forged"


class NotSealed(TamperError):
    """Something stands in place of a sealed file that is not sealed at all."""

    code = "custody.not_sealed"


class WrongCheckpoint(TamperError):
    """An authentic sealed checkpoint stands in another one's place."""

    code = "custody.wrong_checkpoint"


class RolledBack(TamperError):
    """An older authentic version stands in place of the current one."""

    code = "custody.rolled_back"


class WrongKey(TamperError):
    """The key does not belong to this checkpoint, or its envelope was altered."""

    code = "custody.wrong_key"
    remedy = "Have a custodian wrap the checkpoint to you again (custody rewrap)."


class LedgerAltered(TamperError):
    """An entry, tile or log checkpoint of the ledger is not the one that was signed."""

    code = "ledger.altered"


class LedgerTruncated(TamperError):
    """The ledger holds fewer entries than its own signed log checkpoint says."""

    code = "ledger.truncated"


class LedgerForked(TamperError):
    """Two signed log checkpoints of one log contradict each other."""

    code = "ledger.forked"


class LedgerRolledBack(TamperError):
    """The ledger is older than what a witness has seen."""

    code = "ledger.rolled_back"


class ProofInvalid(TamperError):
    """A proof bundle does not verify."""

    code = "ledger.proof_invalid"
    remedy = "Do not believe the entry: ask for the bundle again, from the home itself."


class RecordAltered(TamperError):
    """A record of the home does not fit what the ledger says of it."""

    code = "records.altered"


# ── not found, conflict, storage, limits, extras ─────────────────────────────────────────────────────────────────────
class NotFoundError(StrongroomError):
    """No such thing."""

    code = "not_found"
    exit_status = 5


class NoHome(NotFoundError):
    """No home at that place."""

    code = "home.not_found"
    remedy = "Name it with --home or STRONGROOM_HOME, or make one with `strongroom init`."


class NoSuchCheckpoint(NotFoundError):
    """No checkpoint of that name, tag or version."""

    code = "custody.no_such_checkpoint"
    remedy = "`strongroom custody ls` lists what the home holds."


class NoSuchRequest(NotFoundError):
    """No open request of that id."""

    code = "access.no_such_request"
    remedy = "`strongroom access requests` lists the open ones."


class NoSuchEntry(NotFoundError):
    """No ledger entry at that index."""

    code = "ledger.no_such_entry"
    remedy = "`strongroom ledger tail` shows the newest entries with their indexes."


class ConflictError(StrongroomError):
    """The thing is there already, or somebody holds it."""

    code = "conflict"
    exit_status = 6


class AlreadyExists(ConflictError):
    """Something of that name is there."""

    code = "conflict.already_exists"
    remedy = "Choose another name, or remove what is there."


class AlreadyClaimed(ConflictError):
    """A ledger entry has claimed this one-time right before."""

    code = "ledger.already_claimed"
    remedy = "Ask anew: a one-time right works once."


class Busy(ConflictError):
    """Another process is at work on the same thing."""

    code = "conflict.busy"
    remedy = "Wait for the other process to end, then repeat the command."


class HomeVersion(ConflictError):
    """The home was written by another format version."""

    code = "home.version"
    remedy = "Run `strongroom home upgrade` if the home is older, or install a newer Strongroom if it is newer."


class StorageError(StrongroomError):
    """The disk or the server said no; nothing half-written counts."""

    code = "storage"
    exit_status = 7
    remedy = "See to the storage, then repeat the command: it goes on where it stopped."


class DiskFull(StorageError):
    """No room is left."""

    code = "storage.disk_full"
    remedy = "Make room, then repeat the command: it goes on where it stopped."


class StoreUnavailable(StorageError):
    """A store can't be read or written."""

    code = "storage.unavailable"


class LedgerUnavailable(StorageError):
    """The ledger can't be written, so nothing is released (rule 1)."""

    code = "ledger.unavailable"


class LimitError(StrongroomError):
    """Larger than a stated limit."""

    code = "limit"
    exit_status = 8


class EntryTooLarge(LimitError):
    """A ledger entry is over 65,535 bytes."""

    code = "ledger.entry_too_large"
    remedy = "Shorten the purpose or the names in it."


class InputTooLarge(LimitError):
    """An input is over its stated limit."""

    code = "limit.input_too_large"
    remedy = "Split the input; docs name the limit."


class MissingExtra(StrongroomError):
    """An optional part of Strongroom is not installed."""

    code = "missing_extra"
    exit_status = 9
    remedy = "Install it with: pip install 'strongroom[torch]'"
