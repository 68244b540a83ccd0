"""What a person found in the sample, and what follows for the whole: recall and precision, with their intervals.

Precision: of the findings in the sample, how many were right. Recall is by documents: of those that hold something, the
share in which the filter found something. It follows from how many of the sampled documents without a finding hold
something after all; what was missed in documents that did have a finding isn't in it. The sample is a simple random one
of all such documents; the person is taken to see all there is. Intervals are Wilson's, each at 97.5 %, so that both of
a recall's parts hold together with at least 95 % (Bonferroni).
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from strongroom.core.canonical import decode
from strongroom.core.errors import BadInput
from strongroom.privacy.corpus.documents import REPORT
from strongroom.privacy.filter.report import BESIDE, SAMPLE, Report, Sampled

_Z: Final = 2.241402727604947  # the normal's 98.75 % quantile: 97.5 % on both sides together
_Z95: Final = 1.959963984540054
_WIDEST: Final = 0.2  # an interval that is wider says too little
_FEWEST: Final = 30  # documents


@dataclass(frozen=True, slots=True)
class Share:
    """An estimate between 0 and 1, and its interval."""

    estimate: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Reviewed:
    """What a review says."""

    verdict: Literal["estimated", "inconclusive"]
    recall: Share  # by documents
    precision: Share  # by findings
    documents: int  # without a finding, that were looked at
    findings: int  # that were looked at


def wilson(hits: int, tries: int, z: float = _Z95) -> Share:
    """Return a share with Wilson's score interval (1927); of no tries, anything between 0 and 1."""
    if not tries:
        return Share(0.5, 0.0, 1.0)
    rate, spread = hits / tries, z * z / tries
    middle = (rate + spread / 2) / (1 + spread)
    half = z * math.sqrt(rate * (1 - rate) / tries + spread / (4 * tries)) / (1 + spread)
    low, high = (0.0 if not hits else middle - half), (1.0 if hits == tries else middle + half)
    return Share(rate, max(0.0, low), min(1.0, high))


def reviewed(report: Report, sample: Iterable[Sampled], *, missed: int, wrong: int) -> Reviewed:
    """Return what follows from a person's reading of the whole sample.

    `missed`: documents of the stratum ``clean`` with something in them; `wrong`: findings that were none.

    Raises:
        BadInput: more than there are in the sample.

    """
    strata = [one.stratum for one in sample]
    clean, findings = strata.count("clean"), strata.count("finding")
    if not 0 <= missed <= clean or not 0 <= wrong <= findings:
        raise BadInput(f"the sample has {clean} documents and {findings} findings", where="--missed, --wrong")
    right, lost = wilson(findings - wrong, findings, _Z), wilson(missed, clean, _Z)
    found = report.changed + report.dropped.findings
    rest = report.kept - report.changed
    if rest == clean:  # all were read: this part is no estimate
        share = missed / clean if clean else 0.0
        lost = Share(share, share, share)
    recall = Share(
        _recall(found * right.estimate, rest * lost.estimate),
        _recall(found * right.low, rest * lost.high),
        _recall(found * right.high, rest * lost.low),
    )
    sure = (clean >= _FEWEST or rest == clean) and recall.high - recall.low <= _WIDEST
    verdict = "estimated" if sure else "inconclusive"
    return Reviewed(verdict, recall, wilson(findings - wrong, findings), clean, findings)


def _recall(found: float, missed: float) -> float:
    return found / (found + missed) if found + missed else 1.0


def read_sample(out: Path) -> tuple[Report, list[Sampled]]:
    """Return the report of a filtered corpus, and its sample.

    Raises:
        BadInput: there is none, or the sample is not the report's.

    """
    try:
        report = decode((out / REPORT).read_bytes(), Report, where=REPORT)
        raw = (out / BESIDE / SAMPLE).read_bytes()
    except OSError as error:
        raise BadInput(f"no report of a filtered corpus ({error.strerror})", where=str(out)) from None
    if hashlib.sha256(raw).hexdigest() != report.lists.get(SAMPLE):
        raise BadInput("the sample is not the one that the report names", where=str(out / BESIDE / SAMPLE))
    return report, [decode(line, Sampled, where=SAMPLE) for line in raw.splitlines()]
