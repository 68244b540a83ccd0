"""Every error that Strongroom raises across a package border, in one tree.

    StrongroomError                     exit 1
    ├── Interrupted                     exit 130 somebody interrupted it
    ├── NotSigned                       exit 1   somebody was asked to sign, and said no
    ├── UsageError                      exit 2   the call's words are off
    │   ├── BadName · BadSettings · BadInput · PassphraseUnreadable · CorpusUnreadable · BadRules
    │   └── NothingToMark · CoarseGrid · MarkTooWeak · OtherShape
    ├── RefusedError                    exit 3   who or what may not
    │   ├── WrongPassphrase · UnknownPrincipal · PrincipalDisabled · PrincipalAltered · SessionExpired
    │   ├── NotPermitted · PurposeMismatch · PolicyInvalid · WrongRecoveryKey · UntrustedCode
    │   ├── ApprovalNeeded · SelfApproval · ApprovalExpired · ApprovalConsumed · ApprovalAltered
    │   └── UnknownApiKey · MarkWithheld · OpenEngine · Embargoed · CopyExpired
    ├── TamperError                     exit 4   stored bytes are not what was stored
    │   ├── ManifestMissing · ManifestAltered · SignatureInvalid · PayloadMissing · PayloadTruncated
    │   ├── PayloadExtended · HeaderAltered · SegmentAltered · SegmentForged · NotSealed · WrongCheckpoint
    │   ├── RolledBack · WrongKey · LedgerAltered · LedgerTruncated · LedgerForked · LedgerRolledBack
    │   └── ProofInvalid · RecordAltered · IndexAltered
    ├── NotFoundError                   exit 5   no such thing
    │   ├── NoHome · NoSuchCheckpoint · NoSuchRequest · NoSuchEntry · WitnessUnaware · NoSuchRecipient · NoSuchCopy
    │   └── NoSuchAccount · NoSuchOrganisation · NoSuchApiKey · NoTerms · NothingMarked · NoTokenizer · NoSuchIndex
    │       · NothingAttached
    ├── ConflictError                   exit 6   the thing is there already, or is busy
    │   ├── AlreadyExists · AlreadyClaimed · Busy · HomeVersion · AlreadyUp
    ├── StorageError                    exit 7   the disk or the server said no
    │   ├── DiskFull · StoreUnavailable · LedgerUnavailable · OutputLost · ServiceFailed
    ├── LimitError                      exit 8   larger than a stated limit
    │   └── EntryTooLarge · InputTooLarge
    └── MissingExtra · EngineFailed     exit 9 · 1 an optional part is not installed; a model failed while it wrote

Those of serving, marked copies and corpora are in `core.serving_errors`, `core.copy_errors`, `core.privacy_errors`. A
leaf has a stable ``code``, an exit status and a default ``remedy``; who raises it says ``where`` and the ``message``.
Messages name things and places, never contents, keys or passphrases (rule 9).
"""

from collections.abc import Callable
from functools import partial
from typing import ClassVar


class StrongroomError(Exception):
    """The root: an error with a stable code, a place, a message, a remedy and an exit status."""

    code: ClassVar[str] = "strongroom.error"
    exit_status: ClassVar[int] = 1
    remedy: ClassVar[str] = "Report this with the command that led to it."

    def __init_subclass__(cls, *, code: str, exit_status: int | None = None) -> None:
        """Give a branch or leaf its code, and a branch its exit status."""
        super().__init_subclass__()
        cls.code = code
        cls.exit_status = cls.exit_status if exit_status is None else exit_status

    def __init__(self, message: str, *, where: str, remedy: str | None = None) -> None:
        """Say what happened (`message`), at which file, object or option (`where`), and what to do about it."""
        super().__init__(message)
        self.message = message
        self.where = where
        self.advice = self.remedy if remedy is None else remedy

    def __reduce__(self) -> tuple[Callable[..., "StrongroomError"], tuple[object, ...]]:
        """Let it travel between the processes of a pool."""
        return partial(type(self), where=self.where, remedy=self.advice), (self.message,)

    def document(self) -> dict[str, str]:
        """Return the error as the command line prints it under ``error``."""
        return {"code": self.code, "where": self.where, "message": self.message, "remedy": self.advice}


class Interrupted(StrongroomError, code="interrupted", exit_status=130):
    """The command was interrupted before it was done."""

    remedy = "Repeat the command: what can go on goes on where it stopped."


class NotSigned(StrongroomError, code="access.not_signed"):
    """Somebody was asked to sign, and said no."""

    remedy = "Nothing was signed, and the request still waits. Repeat the command to sign it after all."


class UsageError(StrongroomError, code="usage", exit_status=2):
    """The call's words are off."""

    remedy = "See --help of the command."


class BadName(UsageError, code="usage.bad_name"):
    """A name, tag or id is not of the allowed form."""

    remedy = "Use letters, digits, '.', '_' and '-', starting with a letter or digit; a checkpoint is NAME:TAG."


class BadSettings(UsageError, code="usage.bad_settings"):
    """strongroom.toml has an unknown key or a value of the wrong type."""

    remedy = "Correct strongroom.toml; docs/settings.md lists every key."


class BadInput(UsageError, code="usage.bad_input"):
    """A file or value given as input is not what it should be."""

    remedy = "The message says what is wrong: correct that, and repeat the command."


class PassphraseUnreadable(UsageError, code="usage.passphrase_unreadable"):
    """No passphrase could be read: no file, an empty one, or no terminal to ask at."""

    remedy = "Give --passphrase-file FILE (one line, not empty), or run at a terminal."


class RefusedError(StrongroomError, code="refused", exit_status=3):
    """The one who asks may not have it."""

    remedy = "Ask an owner of the home."


class WrongPassphrase(RefusedError, code="access.wrong_passphrase"):
    """The passphrase does not open this principal's keys."""

    remedy = "Try again with the right passphrase; the recovery key can set a new one (access recover)."


class WrongRecoveryKey(RefusedError, code="access.wrong_recovery_key"):
    """The recovery key is not the one that was printed at init."""

    remedy = "Give the recovery key exactly as `strongroom init` printed it."


class UnknownPrincipal(RefusedError, code="access.unknown_principal"):
    """Nobody of that name is in the home."""

    remedy = "`strongroom access people` lists who is in the home; an owner adds people with `access add`."


class PrincipalDisabled(RefusedError, code="access.principal_disabled"):
    """The principal was disabled by an owner."""

    remedy = "A disabled account never acts again; an owner may add the person under another name."


class PrincipalAltered(RefusedError, code="access.principal_altered"):
    """A principal's record does not match its certificate or the ledger."""

    remedy = "Somebody changed the records outside Strongroom: find out who, and restore the home from a backup."


class SessionExpired(RefusedError, code="access.session_expired"):
    """The session of `access login` has ended."""

    remedy = "Run `strongroom access login` again."


class NotPermitted(RefusedError, code="access.not_permitted"):
    """The policy does not allow this principal that action on that object."""

    remedy = "`strongroom access may` lists what you may do; owners change the policy."


class PurposeMismatch(RefusedError, code="access.purpose_mismatch"):
    """A service asked for another purpose than the one that it is registered for."""

    remedy = "Name the purpose that the service was added with."


class PolicyInvalid(RefusedError, code="access.policy_invalid"):
    """The policy file does not parse or does not fit the schema."""

    remedy = "Correct the Cedar text; docs/access.md describes the schema."


class ApprovalNeeded(RefusedError, code="access.approval_needed"):
    """The action needs a second person, who has not approved yet."""

    remedy = "Have another owner or custodian run `strongroom access approve ID`, then repeat the command."


class SelfApproval(RefusedError, code="access.self_approval"):
    """Somebody tried to approve their own request."""

    remedy = "Somebody else must approve it."


class ApprovalExpired(RefusedError, code="access.approval_expired"):
    """The request or its approval is past its expiry."""

    remedy = "Repeat the command to leave a new request, and have it approved in time."


class ApprovalConsumed(RefusedError, code="access.approval_consumed"):
    """The approval has been used; it works once."""

    remedy = "Repeat the command to leave a new request."


class ApprovalAltered(RefusedError, code="access.approval_altered"):
    """The approval does not fit what is asked: object, destination, host or policy changed, or its signature is bad."""

    remedy = "Leave a new request for what is wanted now, and have that approved."


class TamperError(StrongroomError, code="tamper", exit_status=4):
    """Stored bytes are not the bytes that were stored."""

    remedy = "Do not use this copy: restore it from a backup, and find out who could write there."


class ManifestMissing(TamperError, code="custody.manifest_missing"):
    """A sealed checkpoint has no manifest."""


class ManifestAltered(TamperError, code="custody.manifest_altered"):
    """The manifest does not parse, or is not the one that the ledger recorded."""


class SignatureInvalid(TamperError, code="custody.signature_invalid"):
    """The manifest's signature is missing, of an unknown signer, or does not verify."""


class PayloadMissing(TamperError, code="custody.payload_missing"):
    """A sealed file that the manifest names is not there."""


class PayloadTruncated(TamperError, code="custody.payload_truncated"):
    """A sealed file is shorter than its manifest says."""


class PayloadExtended(TamperError, code="custody.payload_extended"):
    """A sealed file is longer than its manifest says, or a file stands there that the manifest does not name."""


class HeaderAltered(TamperError, code="custody.header_altered"):
    """A sealed file's header is not the one that was sealed."""


class SegmentAltered(TamperError, code="custody.segment_altered"):
    """A segment's ciphertext is not the one that the signed manifest names."""


class SegmentForged(TamperError, code="custody.segment_forged"):
    """A segment fits the manifest, but does not decrypt under its key and place."""


class NotSealed(TamperError, code="custody.not_sealed"):
    """Something stands in place of a sealed file that is not sealed at all."""


class WrongCheckpoint(TamperError, code="custody.wrong_checkpoint"):
    """An authentic sealed checkpoint stands in another one's place."""


class RolledBack(TamperError, code="custody.rolled_back"):
    """An older authentic version stands in place of the current one."""


class WrongKey(TamperError, code="custody.wrong_key"):
    """The key does not belong to this checkpoint, or its envelope was altered."""

    remedy = "Have a custodian wrap the checkpoint to you again (custody rewrap)."


class LedgerAltered(TamperError, code="ledger.altered"):
    """An entry, tile or log checkpoint of the ledger is not the one that was signed."""


class LedgerTruncated(TamperError, code="ledger.truncated"):
    """The ledger holds fewer entries than its own signed log checkpoint says."""


class LedgerForked(TamperError, code="ledger.forked"):
    """Two signed log checkpoints of one log contradict each other."""

    remedy = (
        "Two histories of one log: find out who made the other. After a restore: `ledger witness DIR --accept-loss`."
    )


class LedgerRolledBack(TamperError, code="ledger.rolled_back"):
    """The ledger is older than what a witness has seen."""

    remedy = "Find out who put an older one back. After a restore of your own: `ledger witness DIR --accept-loss`."


class ProofInvalid(TamperError, code="ledger.proof_invalid"):
    """A proof bundle does not verify."""

    remedy = "Do not believe the entry: ask for the bundle again, from the home itself."


class RecordAltered(TamperError, code="records.altered"):
    """A record of the home does not fit what the ledger says of it."""


class NotFoundError(StrongroomError, code="not_found", exit_status=5):
    """No such thing."""


class NoHome(NotFoundError, code="home.not_found"):
    """No home at that place."""

    remedy = "Name it with --home or STRONGROOM_HOME, or make one with `strongroom init`."


class NoSuchCheckpoint(NotFoundError, code="custody.no_such_checkpoint"):
    """No checkpoint of that name, tag or version."""

    remedy = "`strongroom custody ls` lists what the home holds."


class NoSuchRequest(NotFoundError, code="access.no_such_request"):
    """No open request of that id."""

    remedy = "`strongroom access requests` lists the open ones."


class WitnessUnaware(NotFoundError, code="ledger.witness_unaware"):
    """The witness has never seen this log, so it can vouch for nothing."""

    remedy = "Name the right witness, or introduce it with `strongroom ledger witness DIR`."


class NoSuchEntry(NotFoundError, code="ledger.no_such_entry"):
    """No ledger entry at that index."""

    remedy = "`strongroom ledger tail` shows the newest entries with their indexes."


class ConflictError(StrongroomError, code="conflict", exit_status=6):
    """The thing is there already, or somebody holds it."""


class AlreadyExists(ConflictError, code="conflict.already_exists"):
    """Something of that name is there."""

    remedy = "Choose another name, or remove what is there."


class AlreadyClaimed(ConflictError, code="ledger.already_claimed"):
    """A ledger entry has claimed this one-time right before."""

    remedy = "Ask anew: a one-time right works once."


class Busy(ConflictError, code="conflict.busy"):
    """Another process is at work on the same thing, or somebody has begun it."""

    remedy = "Wait for the other to end, then repeat; `custody abandon` throws an unfinished sealing away."


class HomeVersion(ConflictError, code="home.version"):
    """The home was written by another format version."""

    remedy = "Run `strongroom home upgrade` if the home is older, or install a newer Strongroom if it is newer."


class StorageError(StrongroomError, code="storage", exit_status=7):
    """The disk or the server said no; nothing half-written counts."""

    remedy = "See to the storage, then repeat the command: it goes on where it stopped."


class DiskFull(StorageError, code="storage.disk_full"):
    """No room is left."""


class StoreUnavailable(StorageError, code="storage.unavailable"):
    """A store can't be read or written."""


class LedgerUnavailable(StorageError, code="ledger.unavailable"):
    """The ledger can't be written, so nothing is released (rule 1)."""


class OutputLost(StorageError, code="storage.output"):
    """Standard output can't be written: what the command did is done, and its answer is lost."""

    remedy = "Make room or name another place for the output; the command itself may have done its work already."


class LimitError(StrongroomError, code="limit", exit_status=8):
    """Larger than a stated limit."""


class EntryTooLarge(LimitError, code="ledger.entry_too_large"):
    """A ledger entry is over 65,535 bytes."""

    remedy = "Shorten the purpose or the names in it."


class InputTooLarge(LimitError, code="limit.input_too_large"):
    """An input is over its stated limit."""

    remedy = "Split the input; docs name the limit."


class MissingExtra(StrongroomError, code="missing_extra", exit_status=9):
    """An optional part of Strongroom is not installed."""

    remedy = "Install it with: pip install 'strongroom[torch]'"
