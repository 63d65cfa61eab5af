"""How PEFT and transformers come to know the tuner.

``peft.register_peft_method`` takes only names of the closed enum ``PeftType``. What it does with
one is three entries in three plain dictionaries, keyed by a string, so that is done here instead:
the enum stays as it is, and a folder that was saved opens where this package is imported.
"""

from peft.mapping import (
    PEFT_TYPE_TO_CONFIG_MAPPING,
    PEFT_TYPE_TO_PREFIX_MAPPING,
    PEFT_TYPE_TO_TUNER_MAPPING,
)

from moiety.prompts.attention import register_attention
from moiety.prompts.config import PEFT_TYPE, MopsConfig
from moiety.prompts.model import MopsModel


def register_mops() -> None:
    """Enter the method with PEFT, and its attention with transformers; twice is as once."""
    PEFT_TYPE_TO_CONFIG_MAPPING[PEFT_TYPE] = MopsConfig  # pyright: ignore[reportArgumentType]
    PEFT_TYPE_TO_TUNER_MAPPING[PEFT_TYPE] = MopsModel  # pyright: ignore[reportArgumentType]
    PEFT_TYPE_TO_PREFIX_MAPPING[PEFT_TYPE] = MopsModel.prefix  # pyright: ignore[reportArgumentType]
    register_attention()
