"""GET and POST /terms: control keeps the terms and who accepted them; the gateway carries question and answer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import msgspec

from strongroom.gateway.services import Reply
from strongroom.serving.limits import Window
from strongroom.serving.roster import TermsAccepted, TermsText, TermsWanted
from strongroom.serving.wire_errors import Refusal, refuse

_PATIENCE: Final = 10.0  # seconds for control to answer
_MOST: Final = 10  # acceptances a minute with one key: each is an entry of the ledger, for good
_MOST_TOLD: Final = f"With one key, terms are accepted {_MOST} times a minute at most."

Send = Callable[[TermsWanted | TermsAccepted], bool]


class _Question:
    """A client that waits for control's answer."""

    __slots__ = ("due", "reply", "wanted")

    def __init__(self, reply: Reply, wanted: str | None, due: float) -> None:
        self.reply: Reply | None = reply
        self.wanted = wanted  # the digest that is accepted; None: only read
        self.due = due

    def gone(self) -> None:
        """The client has left."""
        self.reply = None


class Terms:
    """The questions that are open."""

    def __init__(self, send: Send) -> None:
        """Ask control by `send`, which says whether the link is up."""
        self._send = send
        self._open: dict[str, _Question] = {}
        self._accepted: dict[str, Window] = {}  # by key

    def too_often(self, key: str, now: float) -> Refusal | None:
        """Count an acceptance; return why it is refused, if so."""
        window = self._accepted.setdefault(key, Window())
        if window.admit(_MOST, now):
            return None
        return Refusal("rate_limit_exceeded", retry_after=window.wait(_MOST, now), detail=_MOST_TOLD)

    def ask(self, request: str, key: str, *, digest: str | None, reply: Reply, now: float) -> _Question | None:
        """Ask control for the terms, or have it record that they are accepted; None: answered already, with a no."""
        wanted = TermsWanted(request=request, key=key)
        accepted = None if digest is None else TermsAccepted(request=request, key=key, digest=digest)
        if not self._send(accepted or wanted):
            reply.refuse(refuse("control_unavailable"))
            return None
        question = self._open[request] = _Question(reply, digest, now + _PATIENCE)
        return question

    def answered(self, terms: TermsText) -> None:
        """Pass control's answer on."""
        question = self._open.pop(terms.request, None)
        if question is None or question.reply is None:
            return
        if question.wanted is not None and question.wanted != terms.digest:
            question.reply.refuse(Refusal("terms_changed"))
            return
        document = {"digest": terms.digest, "version": terms.version, "accepted": question.wanted is not None}
        text = {"text": terms.text} if question.wanted is None else {}
        question.reply.answer(200, msgspec.json.encode(document | text))

    def tick(self, now: float) -> None:
        """Let nobody wait for ever, and forget who has not come for a minute."""
        self._accepted = {key: window for key, window in self._accepted.items() if not window.idle(now)}
        for request, question in list(self._open.items()):
            if question.due <= now:
                del self._open[request]
                if question.reply is not None:
                    question.reply.refuse(refuse("control_unavailable"))
