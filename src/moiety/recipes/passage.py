"""How replies pass to the server, as a recipe says it: private, coded, or summed unseen."""

from dataclasses import replace

from moiety.core.protocols import Method
from moiety.privacy.config import apply_privacy
from moiety.recipes.record import Federation
from moiety.secure.config import SecureConfig, apply_secure
from moiety.wire.config import apply_wire


def apply_passage(method: Method, record: Federation, workers: int, seed: int) -> Method:
    """Let the replies of a method pass as a recipe says.

    Args:
        method: the choices.
        record: the recipe.
        workers: of a round, at most.
        seed: of the run.

    Raises:
        ValueError: where they cannot.
    """
    coded = apply_wire(apply_privacy(method, record.privacy), record.wire)
    return apply_secure(coded, record.secure, workers, seed)


def unmask_record(record: Federation) -> Federation:
    """Take secure sums out of a recipe: they cost bytes, and change no job and no part."""
    return replace(record, secure=SecureConfig())
