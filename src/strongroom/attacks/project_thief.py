"""What a thief does when the usual way of asking is refused: everything that is let through, for as long as it pays.

Refused requests count as asked. In turn: ordinary log probabilities after every prompt there is, and in several places
of each answer; biases small enough to stand beside log probabilities, which push down what was seen and lift what is
often near; comparisons without log probabilities; and repeats of it all, in case they average something away.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from typing import Final

from strongroom.attacks.project_doors import Purse
from strongroom.attacks.project_plans import HALVINGS, Aim, Bisected, Catch, rounds
from strongroom.attacks.project_wire import Query

_MOST: Final = 20  # likeliest tokens that any API shows
_SMALL: Final = 2.0  # the largest bias that is let stand beside log probabilities
_LENGTH: Final = 8  # tokens of an answer whose places are all looked at
_NOT_IN_TIER: Final = 403  # with fewer entries it may be taken
_ENTRIES: Final = (300, 32, 16)  # entries of a bias, as many as are taken
_EACH: Final = 2  # sets beside one prompt: more tokens of each would leave fewer prompts to the day's sets
_COMPARED: Final = 8  # prompts
_GIVEN_UP: Final = 3  # prompts in a row whose first set is refused: the day's are used up
_PLACE: Final = 1 << 32  # keys of places beyond the first


def go_on(purse: Purse, aim: Aim, catch: Catch) -> None:
    """Spend what is left of the purse."""
    top = _shown(purse, aim)
    if top:
        _ordinary(purse, aim, catch, top=top)
        _pushed(purse, aim, catch, top=top)
        _places(purse, aim, catch, top=top)
    compared = Catch()
    Bisected(HALVINGS)(purse, replace(aim, rows=aim.rows[:_COMPARED]), compared)
    for row, values in compared.seen().items():
        catch.join(row, list(values.items()))
    while top and purse.left > 0:
        _ordinary(purse, aim, catch, top=top)


def _shown(purse: Purse, aim: Aim) -> int:
    """Return how many likeliest tokens are shown at all."""
    for top in (_MOST, 5, 1):
        if any(answer.is_given for answer in purse.ask([Query("chat", aim.rows[0], top=top)])):
            return top
    return 0


def _ordinary(purse: Purse, aim: Aim, catch: Catch, *, top: int) -> None:
    for query, answer in rounds(purse, (Query("chat", row, top=top) for row in range(aim.prompts))):
        if answer.places:
            catch.note(query.row, answer.places[0])


def _places(purse: Purse, aim: Aim, catch: Catch, *, top: int) -> None:
    """Look at more places of one answer than the first."""
    queries = (Query("chat", row, top=top, length=_LENGTH) for row in range(aim.prompts))
    for query, answer in rounds(purse, queries):
        for step, values in enumerate(answer.places[1:], start=1):
            catch.note(query.row + step * _PLACE, values)


def _pushed(purse: Purse, aim: Aim, catch: Catch, *, top: int) -> None:
    """Use the sets of small biases that are let through, prompt by prompt, on tokens that are often near the top."""
    common = [token for token, _ in Counter(one for row in catch.seen().values() for one in row).most_common()]
    dead = 0
    for row in range(aim.prompts):
        if dead >= _GIVEN_UP or purse.left <= 0:
            return
        given = sum(1 for _ in _sets(purse, row, catch, common=common, top=top))
        dead = 0 if given else dead + 1


def _sets(purse: Purse, row: int, catch: Catch, *, common: list[int], top: int) -> Iterator[None]:
    """Ask with set after set beside one prompt, until one is refused; a step each that was not."""
    for _ in range(_EACH):
        known = catch.row(row)
        fresh = [token for token in common if token not in known][:top]
        pushed = sorted(known, key=known.__getitem__, reverse=True)
        for entries in _ENTRIES:
            lifted = [(token, _SMALL) for token in fresh]
            bias = (lifted + [(token, -_SMALL) for token in pushed])[:entries]
            answers = purse.ask([Query("chat", row, tuple(bias), top)])
            if not any(answer.status == _NOT_IN_TIER for answer in answers):
                break
        else:
            return
        if not any(answer.places for answer in answers):
            return
        moved = dict(bias)
        catch.join(row, [(token, value - moved.get(token, 0.0)) for token, value in answers[0].places[0]])
        yield
