"""What attacks tell: a row each, apart from the engines that they take, so that front doors can name it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Row:
    """What one attack achieved."""

    attack: str
    host: str
    holders: int  # recipients whose copies went into it; 0: none
    perplexity: float | None  # of the result, relative to the unmarked host, less one
    named: tuple[str, ...]  # blind and against the original
    named_blind: tuple[str, ...]
    innocent_named: int  # of either: 0, or the mark is worthless
    log10_p: float  # of the surest, corrected for 1,000 recipients
    log10_p_blind: float
    checkpoint_log10_p: float
    best_innocent_log10_p: float  # before correction, of either reading
    note: str = ""


@dataclass(frozen=True, slots=True)
class LaunderRow:
    """What a trace says of one suspect whose making is known."""

    attack: str
    expected: str  # match, no_match or common_ancestor
    verdict: str
    checkpoint: str | None
    log10_p: float
    p_kind: str
    method: str
    effect: float
    expected_named: str  # right or nobody
    named: str  # right, wrong or nobody
    derivation: tuple[str, ...]  # each finding's kind and detail
    expected_derivation: tuple[str, ...]
    derivation_right: bool | None  # None: nothing is to be found
    perplexity: float | None  # relative to ours, less one
    seconds: float  # of the trace
    note: str = ""  # why there is none: what is not installed


@dataclass(frozen=True, slots=True)
class ProjectRow:
    """What one way of asking for the hidden size got out of one server."""

    attack: str
    model: str
    guard: str  # none, or the tier that the gateway gave
    how: str  # live: over sockets; policy: through the same policy code in this process
    queries: int
    refused: int
    first_refused: int  # which request was the first that was refused; 0: none
    tokens: int  # that the server counted
    cpu: float  # seconds, of thief and servers together
    prompts: int  # of the largest block of prompts and tokens that was seen without a hole
    seen: int  # its tokens; of an attack by vectors, the numbers of a vector
    estimate: int  # of the hidden size; 0: what was seen is too small for one
    gap: float  # ratio of singular values there
    width: int  # the hidden size
    found: bool
    codes: str  # of the refusals, with their counts
    seconds: float
    layer: float | None = None  # relative error of the last layer that vectors and log probabilities give together


@dataclass(frozen=True, slots=True)
class BenignRow:
    """What became of honest requests."""

    tier: str
    requests: int
    refused: int
    with_logprobs: int
    with_bias: int
    embeddings: int
    text_changed: int  # answers whose text or finish is not the bare server's
    values: int  # log probabilities that were shown
    unexplained: int  # of these, not what the tier's rounding and noise make of the bare server's
    largest_change: float  # nats
    seconds: float


@dataclass(frozen=True, slots=True)
class AgreementRow:
    """Whether a real gateway decides and shows what the policy code alone does."""

    tier: str
    requests: int
    answered: int
    refused: int
    other_decision: int  # requests that one of them refused otherwise than the other
    other_values: int  # answers with other tokens, or values further apart than 10⁻⁶
    seconds: float


@dataclass(frozen=True, slots=True)
class Projected:
    """Everything that `attacks run project` finds."""

    rows: tuple[ProjectRow, ...]
    benign: tuple[BenignRow, ...]
    agreement: tuple[AgreementRow, ...]


@dataclass(frozen=True, slots=True)
class TrainedRow:
    """What one of the models that recite was trained on."""

    model: str
    texts: int
    bytes: int
    tokens: int  # that it saw in training: of each model as many
    values: int  # planted secrets that are still in the corpus, copies counted
    documents: int  # copies of planted documents that still are, edited ones counted
    findings: str  # what the filter masked, by kind
    duplicates: int  # texts that were left out as duplicates


@dataclass(frozen=True, slots=True)
class Left:
    """What is left standing of one class of planted texts."""

    copies: int  # in the raw corpus
    edited: bool  # each with a few other words
    planted: int
    out: int  # of these, recited
    discoverable: int | None  # (1000, 0.9)-discoverable; None: not where temperature is 0, nor through a gateway


@dataclass(frozen=True, slots=True)
class RecitedRow:
    """What prompts with the first words of planted texts brought out."""

    attack: str  # secrets or documents, and the temperature
    guard: str
    answers: int
    stopped: int  # of these, cut off or refused
    locked: int  # after so many questions the account was shut out; 0: it never was
    left: tuple[Left, ...]
    kinds: tuple[tuple[str, int], ...]  # of secrets, how many of each kind were recited
    longest: float  # words of a document in a row, the mean of its longest; of secrets 0
    share: float  # of a document's words that got out in runs of four or more, all its answers together; of secrets 0
    seconds: float


@dataclass(frozen=True, slots=True)
class EvadedRow:
    """What a willing model gets past the output filter in another dress."""

    evasion: str
    what: str  # document or secret
    guard: str
    asked: int  # texts that the model was trained on
    stopped: int
    others: int  # texts of the same kind that it was not …
    others_stopped: int  # … of which any is a false alarm
    out: int  # of those asked, recited: a value, or 50 words of a document in a row
    longest: float  # as above, after undoing what can be undone
    share: float
    seconds: float


@dataclass(frozen=True, slots=True)
class OracleRow:
    """What refusals tell of which texts are in the corpus."""

    policy: str
    way: str  # decode: the candidate is sent encoded; echo: as it is
    what: str  # document or secret
    members: int  # candidates that are in the corpus, and were asked about before the account was shut out
    others: int  # that are not
    members_told: int  # of which an answer was cut or refused
    others_told: int
    advantage: float  # true less false positive rate
    low: float  # its 95 % interval
    high: float
    locked: int  # after so many questions the account was shut out; 0: it never was
    seconds: float


@dataclass(frozen=True, slots=True)
class Recited:
    """Everything that `attacks run recite` finds."""

    trained: tuple[TrainedRow, ...]
    rows: tuple[RecitedRow, ...]
    evaded: tuple[EvadedRow, ...]
    oracle: tuple[OracleRow, ...]
