"""The app of nodes of which some are hostile: they answer with what must not be merged."""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from moiety.federation.apps import make_client_app
from moiety.federation.node import NodeConfig
from moiety.federation.resident import hand_over

HOSTILE = "MOIETY_HOSTILE_NODE"
"""Set in the environment of a node that is hostile."""

KINDS = ("nan", "huge", "shapes", "part")
LENGTH = 8
"""Bytes in which a length stands."""


@dataclass(frozen=True)
class Flat:
    """A tensor as it lies in a letter."""

    dtype: str
    shape: list[int]
    data: bytes


CLIENT = '''"""The app of a node, which may be hostile."""

from benchmarks.federation_parts.hostile import make_app

app = make_app()
'''


def make_app() -> Any:
    """Make the app of a node."""
    return make_client_app(answer_badly if os.environ.get(HOSTILE) else hand_over)


def answer_badly(node: NodeConfig, letter: bytes) -> bytes:
    """Answer with something else in each round: NaN, huge values, wrong shapes, the wrong part.

    Letters are read and written by hand: torch is slow to start, and this is done anew for each.
    """
    del node
    plain, tensors = read_letter(letter)
    job = plain["head"]
    names = {path[-1]: number for number, path in enumerate(plain["paths"]) if path[0] == "piece"}
    kind = KINDS[job["round"] % len(KINDS)]
    spoiled = [spoil(kind, tensors[str(names[name])]) for name in job["order"]]
    paths = [["piece", name] for name in job["order"]]
    axes = [["part", "h1"]] if kind == "part" else []
    head = {"worker": job["worker"], "role": job["role"], "names": job["names"]}
    head |= {"order": job["order"], "sections": [], "code": [], "scalar": 1.0, "record": {}}
    held = Flat("I64", [1], bytes(8))
    return write_letter({**head, "fault": ""}, [*paths, *axes], [*spoiled, *[held for _ in axes]])


def spoil(kind: str, tensor: Flat) -> Flat:
    """Spoil a tensor of float32."""
    if kind == "shapes":
        first, *others = tensor.shape
        return replace(tensor, shape=[2 * first, *others], data=2 * tensor.data)
    if kind == "part":
        return tensor
    value = struct.pack("<f", float("nan") if kind == "nan" else 1e30)
    return replace(tensor, data=value * (len(tensor.data) // len(value)))


def read_letter(letter: bytes) -> tuple[dict[str, Any], dict[str, Flat]]:
    """Read a letter: what is plain, and the tensors by their numbers."""
    plain, rest = read_json(letter)
    header, data = read_json(rest)
    header.pop("__metadata__", None)
    ends = {name: told["data_offsets"] for name, told in header.items()}
    return plain, {
        name: Flat(told["dtype"], told["shape"], data[slice(*ends[name])])
        for name, told in header.items()
    }


def read_json(data: bytes) -> tuple[dict[str, Any], bytes]:
    """Read JSON behind its length, and what follows."""
    end = LENGTH + int.from_bytes(data[:LENGTH], "little")
    return json.loads(data[LENGTH:end]), data[end:]


def write_letter(head: Mapping[str, Any], paths: Sequence[Any], tensors: Sequence[Flat]) -> bytes:
    """Write a letter."""
    header, at = {}, 0
    for number, one in enumerate(tensors):
        here = {"dtype": one.dtype, "shape": one.shape, "data_offsets": [at, at + len(one.data)]}
        header[str(number)], at = here, at + len(one.data)
    blocks = [json.dumps(told).encode() for told in ({"head": head, "paths": paths}, header)]
    framed = [len(block).to_bytes(LENGTH, "little") + block for block in blocks]
    return b"".join([*framed, *(one.data for one in tensors)])
