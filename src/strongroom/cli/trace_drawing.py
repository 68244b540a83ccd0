"""What a trace's page draws, as SVG: the map of layers, the scores of all candidates, the differences' histogram.

Every picture has a title and a description; what it shows stands in words or in a table beside it as well.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import Final

from strongroom.cli.page import safe
from strongroom.lineage.decode import NAMED
from strongroom.lineage.traced import Histogram, LineageFound, RecipientFound

_WIDTH: Final = 760
_LEFT, _RIGHT = 210, 550  # of the two columns of layers
_BOX: Final = 46
_MOST_ROWS: Final = 400  # layers of a column
_MOST_DOTS: Final = 400  # candidates
_TALL: Final = 260
_FAINTEST: Final = 0.15


def layer_map(found: LineageFound) -> str:
    """Draw which layer of the checkpoint (right) each layer of the suspect (left) comes from."""
    theirs, ours = layers_of(found)
    longest = min(max(len(theirs), len(ours)), _MOST_ROWS)
    step = 20 if longest <= 40 else 11  # noqa: PLR2004 - so that deep models fit on a page or two
    left, right = ({number: 48 + step * at for at, number in enumerate(some[:longest])} for some in (theirs, ours))
    uses = Counter(source for _, source, _ in found.layer_map)
    homes = {suspect for suspect, _, _ in found.layer_map}
    body = [
        _text((_LEFT - _BOX / 2, 24), "the suspect's layers", "said", anchor="middle"),
        _text((_RIGHT + _BOX / 2, 24), "the checkpoint's layers", "said", anchor="middle"),
    ]
    for suspect, source, fraction in found.layer_map:
        if suspect in left and source in right:
            kind = "line" if suspect == source else "line moved"
            opacity = max(fraction, _FAINTEST)
            body.append(
                f"<path class='{kind}' stroke-opacity='{opacity:.2f}' d='{_curve(left[suspect], right[source])}'/>"
            )
    for number, y in left.items():
        note = "" if number in homes else "from elsewhere"
        body.append(_layer(_LEFT - _BOX, y, number, step=step, kind="void" if note else "box"))
        body.append(_text((_LEFT - _BOX - 10, y + 4), note, "odd-said", anchor="end"))
    for number, y in right.items():
        note = "left out" if not uses[number] else f"used {uses[number]} times" if uses[number] > 1 else ""
        kind = "box" if not note else "odd" if uses[number] else "void"
        body.append(_layer(_RIGHT, y, number, step=step, kind=kind))
        body.append(_text((_RIGHT + _BOX + 10, y + 4), note, "odd-said"))
    told = (
        f"{len(found.layer_map)} of {len(theirs)} layers of the suspect come from the checkpoint's {len(ours)}. "
        "Stronger lines: more of a layer's units. The table below says the same."
    )
    return _svg("layers", "Map of layers", told, body=body, height=58 + step * longest)


def layers_of(found: LineageFound) -> tuple[list[int], list[int]]:
    """Return the numbers of the suspect's and of the checkpoint's layers, as far as the tests tell them."""
    every: list[list[int]] = []
    for at, count in enumerate(found.layers):
        told = {int(one[at]) for one in found.layer_map}
        every.append(sorted(told | set(range(count)) if max(told, default=0) < count else told))
    return every[0], every[1]


def scores(found: RecipientFound) -> str:
    """Draw log10 p of every candidate, and the line below which somebody is named."""
    named = {at: (one.name, one.log10_p) for at, one in enumerate(found.colluders)}
    if not named and found.verdict == "match":
        named = {0: (str(found.name), found.log10_p)}
    shown = [named[at][1] if at in named else one for at, one in enumerate(found.scores[:_MOST_DOTS])]
    low = min([*shown, math.log10(NAMED) * 2])
    across = (_WIDTH - 150) / max(len(shown), 2)

    def place(at: int, log10_p: float) -> tuple[float, float]:
        return 90 + across * (at + 0.5), 30 + _TALL * math.sqrt(log10_p / low)

    body = _axis(low)
    edge = place(0, math.log10(NAMED))[1]
    body.append(f"<path class='limit' d='M80 {edge:.1f}H{_WIDTH - 20}'/>")
    body.append(_text((_WIDTH - 20, edge - 6), "below this line somebody is named: 10^-6", "limit-said", anchor="end"))
    said = math.inf  # how far down the last name stands: names that would touch move up
    for at, log10_p in enumerate(shown):
        x, y = place(at, log10_p)
        kind, size = ("named", 6) if at in named else ("dot", 4 if len(shown) <= 60 else 2)  # noqa: PLR2004 - room
        body.append(f"<circle class='{kind}' cx='{x:.1f}' cy='{y:.1f}' r='{size}'/>")
        if at in named:
            said = min(y + 4, said - 15)
            body.append(_text((x + 11, said), f"{named[at][0]}: 10^{log10_p:.0f}", "named-said"))
    under = f"{len(shown)} of {found.candidates} candidates, the best fit first; log10 p by its square root"
    body.append(_text((90, _TALL + 62), under, ""))
    told = f"log10 of the p-value of {len(shown)} candidates; {len(named)} lie below the line of 10^-6."
    return _svg("scores", "Scores of the recipients", told, body=body, height=_TALL + 76)


def histogram(found: Histogram) -> str:
    """Draw how the differences are spread, and the Gaussian of their standard deviation over it."""
    bins, total = len(found.counts), max(sum(found.counts), 1)
    wide = (found.edges_high - found.edges_low) / bins
    bell = [
        total * wide * math.exp(-((found.edges_low + (at + 0.5) * wide) ** 2) / 2) / math.sqrt(2 * math.pi)
        for at in range(bins)
    ]
    tallest, across = max([*found.counts, *bell]), (_WIDTH - 60) / bins
    body = [f"<path class='axis' d='M30 {_TALL + 20}H{_WIDTH - 30}'/>"]
    for at, count in enumerate(found.counts):
        high = _TALL * count / tallest
        body.append(
            f"<rect class='bar' x='{30 + across * at:.1f}' y='{_TALL + 20 - high:.1f}' "
            f"width='{across * 0.92:.1f}' height='{high:.1f}'/>"
        )
    points = " ".join(
        f"{30 + across * (at + 0.5):.1f},{_TALL + 20 - _TALL * one / tallest:.1f}" for at, one in enumerate(bell)
    )
    body.append(f"<polyline class='bell' points='{points}'/>")
    for sigma in range(math.ceil(found.edges_low), math.floor(found.edges_high) + 1)[:41]:
        x = 30 + across * (sigma - found.edges_low) / wide
        body.append(_text((x, _TALL + 38), f"{sigma} sd" if sigma else "0", "", anchor="middle"))
    told = f"{total:,} differences, in their standard deviation of {found.sigma:.3g} spreads; the line is a Gaussian."
    return _svg("differences", "Histogram of the differences", told, body=body, height=_TALL + 50)


def _axis(low: float) -> list[str]:
    """Return the axis of scores, from 0 down to `low`: by the square root, so that the line at -6 can be seen."""
    body = [f"<path class='axis' d='M80 24V{_TALL + 36}'/>", _text((14, 18), "log10 p", "said")]
    ticks = [0.0, -6.0, *(low * share for share in (0.3, 0.6, 1.0) if low * share < -12)]  # noqa: PLR2004 - apart from -6
    for tick in ticks:
        y = 30 + _TALL * math.sqrt(tick / low)
        body += [f"<path class='axis' d='M74 {y:.1f}H80'/>", _text((68, y + 4), f"{tick:.0f}", "", anchor="end")]
    return body


def _curve(left: float, right: float) -> str:
    bend = (_RIGHT - _LEFT) / 2.5
    return f"M{_LEFT} {left}C{_LEFT + bend:.0f} {left} {_RIGHT - bend:.0f} {right} {_RIGHT} {right}"


def _layer(x: float, y: float, number: int, *, step: int, kind: str) -> str:
    high = step - 4
    box = f"<rect class='{kind}' x='{x}' y='{y - high / 2:.1f}' width='{_BOX}' height='{high}' rx='3'/>"
    return box + _text((x + _BOX / 2, y + 4), str(number), "small" if step < high else "", anchor="middle")


def _text(at: tuple[float, float], text: str, kind: str, *, anchor: str = "start") -> str:
    if not text:
        return ""
    return f"<text class='{kind}' x='{at[0]:.1f}' y='{at[1]:.1f}' text-anchor='{anchor}'>{safe(text)}</text>"


def _svg(name: str, title: str, told: str, *, body: Sequence[str], height: float) -> str:
    return (
        f"<svg role='img' viewBox='0 0 {_WIDTH} {height:.0f}' aria-labelledby='{name}-title {name}-told'>"
        f"<title id='{name}-title'>{safe(title)}</title><desc id='{name}-told'>{safe(told)}</desc>"
        f"{''.join(body)}</svg>"
    )
