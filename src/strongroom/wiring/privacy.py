"""Keys of what is made of training text: one for each window index, and one for pseudonyms, from the house's secret."""

from __future__ import annotations

from typing import Final

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from strongroom.access.identity import Identity
from strongroom.access.policy import Question
from strongroom.core.canonical import encode
from strongroom.core.secrets import Secret
from strongroom.custody.housekeys import CORPUS_MASTER, HouseKeys
from strongroom.wiring.home import Home

_KEY_BYTES: Final = 32


def corpus_master(home: Home, who: Identity, purpose: str) -> Secret:
    """Return the secret that these keys are derived from, once `who` may have it and the ledger says so.

    Raises:
        NotPermitted: the policy does not let `who` keep corpora.
        WrongKey: nobody wrapped the secret to `who`.

    """
    housekeys = HouseKeys(home.desk, home.journal, home.vault.registry)
    return housekeys.obtain(who, CORPUS_MASTER, Question("privacy.corpus", purpose=purpose))


def index_key(master: Secret, index_id: str) -> Secret:
    """Return the key of the window index with this id: HKDF-SHA-256 (RFC 5869), so that no index opens another."""
    return _derived(master, ["strongroom/windows@1", index_id])


def pseudonym_key(master: Secret) -> Secret:
    """Return the key of the house's pseudonyms: the same value has the same pseudonym in every corpus."""
    return _derived(master, ["strongroom/pseudonyms@1"])


def _derived(master: Secret, info: list[str]) -> Secret:
    return Secret(HKDF(SHA256(), _KEY_BYTES, salt=None, info=encode(info)).derive(master.reveal()))
