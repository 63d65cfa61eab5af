"""What a node's own configuration says; light, for Flower starts a process for each message."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

NODES = Path.home() / ".cache" / "moiety" / "nodes"
"""Where nodes keep their memory, unless their configuration names a folder."""

KEYS = ("name", "data", "rows", "test", "model", "folder")
"""What a configuration may say."""

NAME = r"[^\W_][\w.-]{0,63}"
"""How nodes are called: folders and files have their names, and commands are given them."""


@dataclass(frozen=True)
class NodeConfig:
    """What a node is.

    Args:
        name: of the node, which is a worker's.
        data: what it reads as the data of the run; a server cannot name any other file.
        folder: on its disk: what it keeps between rounds.
        rows: a file of rows that it alone has, on which it trains; empty for those of ``data``.
        test: what it reads as the test file of the run, where that has one.
        model: folder of the language model, of the pretrained encoder, or of the one that is the
            common expert (``common.model``), where the run has one.
    """

    name: str
    data: str
    folder: Path
    rows: str = ""
    test: str = ""
    model: str = ""


def check_name(name: str) -> None:
    """Refuse what cannot be the name of a node.

    Raises:
        ValueError: with what it may be.

    >>> check_name("../north")
    Traceback (most recent call last):
    ...
    ValueError: a node called '../north': choose 1 to 64 letters, digits, '.', '-' or '_', of ...
    """
    if not re.fullmatch(NAME, name):
        raise ValueError(
            f"a node called {name!r}: choose 1 to 64 letters, digits, '.', '-' or '_', of which "
            "the first is a letter or a digit; its folder and its keys are called so"
        )


def read_node(config: Mapping[str, Any]) -> NodeConfig:
    """Read a node's own configuration: ``name``, ``data`` and, if need be, the others.

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
    told = {key: str(config.get(key) or "") for key in KEYS}
    check_name(told["name"])
    folder = Path(told["folder"] or NODES / told["name"])
    return NodeConfig(**{**told, "folder": folder})
