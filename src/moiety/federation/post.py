"""Letters moved by Flower: the grid's push and pull, and the names of nodes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from moiety.core.extras import import_extra
from moiety.engine.post import Returned
from moiety.federation.packing import CONFIG, NAME, PURPOSE, WORK, pack_letter, unpack_letter

ROLL_S = 60.0
"""Seconds after which a node that did not say its name is asked again."""


@dataclass
class FlowerPost:
    """Moves letters over a grid of Flower.

    Args:
        grid: of Flower.
        names: address of a node -> what it calls itself.
        asked: number of a question for a name -> the address that it went to.
    """

    grid: Any
    names: dict[int, str] = field(default_factory=dict)
    asked: dict[str, int] = field(default_factory=dict)

    def find_nodes(self) -> Mapping[str, int]:
        """Name the nodes that are here.

        A node that was registered under a name has that name, whatever it calls itself; others are
        asked once. Of two that call themselves alike the later one counts.
        """
        here = {node.node_id: node.name for node in self.grid.get_nodes()}
        registered = {name: node for node, name in here.items() if name}
        for node in here.keys() - registered.values() - self.names.keys():
            if node not in self.asked.values():
                self.asked[self.push(node, NAME, b"", ROLL_S)] = node
        for number, message in self.pull(list(self.asked)).items():
            node = self.asked.pop(number)
            if not message.has_error():
                self.names[node] = str(message.content[CONFIG]["name"])
        told = {name: node for node, name in self.names.items() if node in here}
        return {**told, **registered}

    def send(self, node: int, letter: bytes, limit_s: float, /) -> str:
        return self.push(node, WORK, letter, limit_s)

    def collect(self, numbers: Sequence[str], /) -> Mapping[str, Returned]:
        return {number: open_message(one) for number, one in self.pull(numbers).items()}

    def push(self, node: int, kind: str, letter: bytes, limit_s: float) -> str:
        """Push one message; an empty number says that Flower did not take it."""
        flwr = import_extra("flwr.app", PURPOSE, "flower")
        content = pack_letter(letter)
        message = flwr.Message(content, dst_node_id=node, message_type=kind, ttl=limit_s)
        return next(iter(self.grid.push_messages([message])), None) or ""

    def pull(self, numbers: Sequence[str]) -> Mapping[str, Any]:
        """Pull the messages that are there."""
        found = self.grid.pull_messages(list(numbers)) if numbers else []
        return {message.metadata.reply_to_message_id: message for message in found}


def open_message(message: Any) -> Returned:
    """Read a message: a letter, or the error in its place."""
    if message.has_error():
        reason = message.error.reason or f"error {message.error.code}"
        return Returned(fault=f"Flower: {reason}")
    try:
        return Returned(unpack_letter(message))
    except (LookupError, TypeError, AttributeError) as error:
        return Returned(fault=f"the message has no letter: {error}")
