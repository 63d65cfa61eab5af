"""A letter in a message of Flower; light, for a node starts a process for each message."""

from __future__ import annotations

from typing import Any

from moiety.core.extras import import_extra

WORK, NAME = "train", "query"
"""Kinds of Flower's messages: a job or a question of ours, and who a node is."""

RECORD, ARRAY, CONFIG = "letter", "bytes", "node"
"""What a message of ours has in it."""

PURPOSE = "a federation over a network"


def pack_letter(letter: bytes) -> Any:
    """Put a letter into a record of Flower: an array, which it sends in chunks."""
    flwr = import_extra("flwr.app", PURPOSE, "flower")
    array = flwr.Array(dtype="uint8", shape=(len(letter),), stype="moiety.letter", data=letter)
    return flwr.RecordDict({RECORD: flwr.ArrayRecord({ARRAY: array})})


def unpack_letter(message: Any) -> bytes:
    """Take the letter out of a message."""
    return message.content[RECORD][ARRAY].data
