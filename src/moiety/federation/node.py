"""What a node's own configuration says; light, for Flower starts a process for each message."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

NODES = Path.home() / ".cache" / "moiety" / "nodes"
"""Where nodes keep their memory, unless their configuration names a folder."""

KEYS = ("name", "data", "folder")
"""What a configuration may say; Flower passes on all that it is given."""


@dataclass(frozen=True)
class NodeConfig:
    """What a node is.

    Args:
        name: of the node, which is a worker's.
        data: what it reads as the data of the run; a server cannot name any other.
        folder: on its disk: what it keeps between rounds.
    """

    name: str
    data: str
    folder: Path


def read_node(config: Mapping[str, Any]) -> NodeConfig:
    """Read a node's own configuration: ``name``, ``data`` and, if wished, ``folder``.

    Raises:
        ValueError: where it does not say its name or its data, or says what nothing reads.

    >>> read_node({"name": "north", "data": "digits", "folder": "/tmp/north"}).name
    'north'
    """
    lacks = [key for key in ("name", "data") if not config.get(key)]
    if lacks:
        raise ValueError(
            f"the node's configuration lacks {' and '.join(lacks)}; start it with "
            'flower-supernode --node-config \'name="north" data="digits"\''
        )
    strange = sorted(config.keys() - set(KEYS))
    if strange:
        raise ValueError(
            f"the node's configuration says {strange}, which nothing reads; it may say "
            f"{', '.join(KEYS)}"
        )
    name = str(config["name"])
    return NodeConfig(name, str(config["data"]), Path(str(config.get("folder") or NODES / name)))
