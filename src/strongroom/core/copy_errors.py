"""What can go wrong with marked copies of a checkpoint, as leaves of the one tree (`core.errors`)."""

from strongroom.core.errors import NotFoundError, RefusedError, UsageError


class NothingToMark(UsageError, code="lineage.nothing_to_mark"):
    """The checkpoint has no weights that a mark can be put into."""

    remedy = "Only plain MLP projections in float16, bfloat16 or float32 carry marks: docs/lineage.md lists the names."


class CoarseGrid(UsageError, code="lineage.coarse_grid"):
    """The weights lie on a coarse grid: whoever rounds them to it again would wipe the mark out."""

    remedy = "Move the checkpoint off its grid first, by a short fine-tune in 16 bits, and seal the result."


class MarkTooWeak(UsageError, code="lineage.mark_too_weak"):
    """The checkpoint is too small, or its dtype too coarse, for a mark that would convince anybody."""

    remedy = "Issue for fewer recipients or colluders ([lineage] in strongroom.toml), or do not issue this checkpoint."


class OtherShape(UsageError, code="lineage.other_shape"):
    """The suspect's weights do not have the shape of the checkpoint's."""

    remedy = "Compare it with the checkpoint that it was made from; a reshaped file must be aligned first."


class NoSuchRecipient(NotFoundError, code="custody.no_such_recipient"):
    """No recipient of that name."""

    remedy = "`strongroom custody recipient add NAME --public-key FILE` adds one."


class NoSuchCopy(NotFoundError, code="custody.no_such_copy"):
    """No copy of that id, or none of that checkpoint."""

    remedy = "`strongroom custody copies` lists what was issued."


class Embargoed(RefusedError, code="custody.embargoed"):
    """The copy, or its release share, is under an embargo."""

    remedy = "Wait for the date; then ask the owner for the release share and give it with --share FILE."


class CopyExpired(RefusedError, code="custody.copy_expired"):
    """The copy's term is over. This binds an honest client only: whoever has the key can decrypt without it."""

    remedy = "Ask whoever issued the copy for a new one."
