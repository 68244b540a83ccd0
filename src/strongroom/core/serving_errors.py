"""What can go wrong with running and serving a model, as leaves of the one tree (`core.errors`)."""

from strongroom.core.errors import ConflictError, NotFoundError, RefusedError, StorageError, StrongroomError


class EngineFailed(StrongroomError, code="engine.failed"):
    """A model, or what runs it, failed while it was writing."""

    remedy = "Try again; if it happens again, check the memory that is free and the checkpoint (custody verify)."


class UntrustedCode(RefusedError, code="engine.untrusted_code"):
    """A checkpoint asks for code of its own, or of a third party, to be run."""

    remedy = "Use a checkpoint of an architecture that transformers itself ships: no model's code is ever run."


class UnknownApiKey(RefusedError, code="serving.unknown_api_key"):
    """The API key is none of this home's, or was revoked."""

    remedy = "`strongroom serving account show NAME` lists the ids of an account's keys; `serving key add` makes one."


class MarkWithheld(RefusedError, code="serving.mark_withheld"):
    """Control does not release the mark of an account, so nothing is written for it."""

    remedy = "Look at the account with `strongroom serving account show NAME`."


class OpenEngine(RefusedError, code="serving.open_engine"):
    """An engine answers people who show no key, or by routes that go round the gateway."""

    remedy = (
        "Give the engine a key (--engine-key-file) and close the routes that it does not guard, with a proxy if need "
        'be; serving.open_engine = "serve" in strongroom.toml serves it all the same.'
    )


class NoSuchAccount(NotFoundError, code="serving.no_such_account"):
    """No account of that name."""

    remedy = "`strongroom serving account add NAME` makes one."


class NoSuchOrganisation(NotFoundError, code="serving.no_such_organisation"):
    """No organisation of that name."""

    remedy = "`strongroom serving org add NAME` makes one; `serving org ls` lists them."


class NoSuchApiKey(NotFoundError, code="serving.no_such_api_key"):
    """No API key of that id."""

    remedy = "`strongroom serving account show NAME` lists the ids of an account's keys."


class NoTerms(NotFoundError, code="serving.no_terms"):
    """No terms were published."""

    remedy = "`strongroom serving terms publish FILE` publishes them."


class NothingAttached(NotFoundError, code="serving.nothing_attached"):
    """No window index is attached to what is served."""

    remedy = "`strongroom serving recall attach INDEX` attaches one."


class NothingMarked(NotFoundError, code="watermark.nothing_marked"):
    """No text was ever marked by this home, so there is nothing to recognise."""

    remedy = "Serve a sealed model with `strongroom up` first; marks are given out from then on."


class NoTokenizer(NotFoundError, code="watermark.no_tokenizer"):
    """The tokenizer that a text was written with is not known."""

    remedy = "Name a checkpoint that was served, or that you may open, with --tokenizer NAME:TAG."


class AlreadyUp(ConflictError, code="serving.already_up"):
    """The home is being served already."""

    remedy = "Stop the other `strongroom up` first; `strongroom serving status` names it."


class ServiceFailed(StorageError, code="serving.failed"):
    """A process of `strongroom up` ended before it was ready, or ends again and again."""

    remedy = 'Its last words stand above; [log] level = "info" in strongroom.toml makes it say more.'
