"""Files made to harm: what no reader expects in the place of each kind."""

from __future__ import annotations

import io
import json
import os
import pickle
import shutil
import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.faults_parts.shelf import Kind
from benchmarks.faults_parts.watch import Try
from moiety.core.files import add_digest
from moiety.core.lines import add_line_digest
from moiety.data.files import read_file


def put(path: Path, data: bytes) -> None:
    """Write bytes."""
    path.write_bytes(data)


PLACES: dict[str, Callable[[Path], object]] = {
    "nothing": lambda path: put(path, b""),
    "a pipe": os.mkfifo,
    "a folder": os.mkdir,
    "a link to nowhere": lambda path: path.symlink_to("nowhere"),
    "a link to itself": lambda path: path.symlink_to(path),
    "an endless device": lambda path: path.symlink_to("/dev/zero"),
    "noise": lambda path: put(path, bytes(range(256)) * 16),
    "zeros": lambda path: put(path, bytes(4096)),
    "deep lists": lambda path: put(path, b"[" * 100_000),
    "deep records": lambda path: put(path, b'{"a":' * 100_000),
    "a number": lambda path: put(path, b"7\n"),
    "a list": lambda path: put(path, b"[1, 2]\n"),
    "a pickle": lambda path: put(path, pickle.dumps(print)),
}
"""What may lie where a file should."""

FREE = ("text", "fields", "block index")
"""What may be anything, or missing: a checkpoint of blocks without an index does not count."""

VALUES: tuple[Any, ...] = (None, -1, 10**30, "x", [], {}, [[]], 1e308, True)


def replace_place(kind: Kind, make: Callable[[Path], object]) -> Callable[[], str]:
    """Read what was put in the place of a file, and put the file back."""

    def act() -> str:
        aside = kind.path.with_name("aside")
        kind.path.rename(aside)
        try:
            make(kind.path)
            return kind.read()
        finally:
            if kind.path.is_dir() and not kind.path.is_symlink():
                shutil.rmtree(kind.path)
            else:
                kind.path.unlink(missing_ok=True)
            aside.rename(kind.path)

    return act


def write_npy(shape: object, kind: str = "<f4", data: bytes = b"") -> bytes:
    """Write an array that says anything of itself."""
    head = f"{{'descr': {kind!r}, 'fortran_order': False, 'shape': {shape}, }}".encode() + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(head)) + head + data


def pack(**arrays: bytes) -> bytes:
    """Write a zip file of anything."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as file:
        for name, data in arrays.items():
            file.writestr(f"{name}.npy", data)
    return out.getvalue()


def write_png(width: int, height: int) -> bytes:
    """Write a picture that says it is of any size."""

    def chunk(name: bytes, data: bytes) -> bytes:
        check = struct.pack(">I", zlib.crc32(name + data))
        return struct.pack(">I", len(data)) + name + data + check

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    start = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head)
    return start + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")


def craft_arrays() -> dict[str, bytes]:
    """Make npz files that lie of what they hold."""
    objects = io.BytesIO()
    np.savez(objects, x=np.array([{}], dtype=object))
    shapes = ("(-1, 2)", "(10**12, 8)", "(1 << 70, 2)", "(2, 3)", "(2.0, 3)", "'x'", "((1,),)")
    shapes += ("(" * 4000, "(1,) * 9", "None", "(0, 10**18)", f"({9 * '9' * 100}, 1)")
    found = {f"shape {shape[:20]}": pack(x=write_npy(shape)) for shape in shapes}
    kinds = ("|O", "<U999999999", "|V0", "|S0", "<c8", "<M8[s]", "nonsense", "<f4" * 99)
    found |= {f"type {kind[:20]}": pack(x=write_npy("(2, 2)", kind)) for kind in kinds}
    zeros = write_npy("(100000000, 4)", data=bytes(1 << 20))
    bomb = write_npy("(80000, 1000)", data=bytes(320_000_000))
    return found | {
        "objects": objects.getvalue(), "bomb": pack(x=bomb), "short": pack(x=zeros),
        "raw bytes": pack(x=b"hello"), "no magic": b"PK\x03\x04" + bytes(60),
        "bare array": write_npy("(1 << 40, 8)"), "twice": pack(x=write_npy("(1, 1)"))[:-9],
    }  # fmt: skip


TABLES = {
    "latin late": b"a,label\n" + b"1,the\n" * 3000 + b"1,caf\xe9\n",
    "too large labels": b"a,label\n1,1e19\n2,2e19\n", "infinite labels": b"a,label\n1,inf\n2,1.0\n",
    "missing words": b"a,label\n1,NA\n2,x\n", "blank labels": b"a,label\n1,  \n2,x\n",
    "nul": b"a,label\n1,\0\n\0,x\n", "quote open": b'a,label\n1,"x\n2,y\n' * 9,
    "one long line": b"a," * 200_000 + b"b\n", "no numbers": b"a,label\nx,y\n",
    "utf-16": "a,label\n1,x\n".encode("utf-16"),
    "huge number": b"a,label\n" + b"9" * 5000 + b",x\n",
}  # fmt: skip

PICTURES = {
    "eps": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\nshowpage\n",
    "gif": b"GIF89a\x01\x00\x01\x00\x00\x00\x00;", "large": write_png(60_000, 60_000),
    "wide": write_png(2**31 - 1, 1), "none": write_png(0, 0), "ppm": b"P6 1 1 255\n\0\0\0",
    "tiff": b"II*\0\x08\0\0\0\0\0", "head": b"\x89PNG\r\n\x1a\n", "jpeg head": b"\xff\xd8\xff\xe0",
}  # fmt: skip


def write_tensors(header: bytes, length: int | None = None) -> bytes:
    """Write a safetensors file of which the header says anything."""
    return struct.pack("<Q", len(header) if length is None else length) + header


TENSORS = {
    "length": write_tensors(b"{}", 1 << 62), "deep": write_tensors(b'{"a":' * 50_000),
    "shape": write_tensors(
        b'{"w":{"dtype":"F32","shape":[1099511627776,1024],"data_offsets":[0,8]}}'
    ),
    "offsets": write_tensors(b'{"w":{"dtype":"F32","shape":[2],"data_offsets":[8,0]}}'),
    "type": write_tensors(b'{"w":{"dtype":"X9","shape":[2],"data_offsets":[0,8]}}'),
}  # fmt: skip


def change_fields(kind: Kind) -> list[Try]:
    """Change each field of a record of ours in turn, with a digest that fits."""
    raw = json.loads(kind.path.read_text())
    found: list[Try] = []
    for number, name in enumerate(raw):
        value = VALUES[number % len(VALUES)]
        for what, changed in (
            ("gone", {one: raw[one] for one in raw if one != name}),
            (f"as {value!r:.20}", {**raw, name: value}),
        ):
            data = json.dumps(add_digest(changed)).encode()
            act = replace_place(kind, lambda path, data=data: put(path, data))
            found.append((f"{kind.path.name}: {name} {what}, may be read", act))
    return found


def change_lines(kind: Kind) -> list[Try]:
    """Change each field of each kind of line of a ledger, with a digest that fits."""
    lines = kind.path.read_text().splitlines()
    found: list[Try] = []
    for place, line in enumerate(lines[:3]):
        raw = {name: one for name, one in json.loads(line).items() if name != "check"}
        for number, name in enumerate(raw):
            value = VALUES[number % len(VALUES)]
            changed = add_line_digest(json.dumps({**raw, name: value}))
            text = "\n".join([*lines[:place], changed, *lines[place + 1 :]]) + "\n"
            act = replace_place(kind, lambda path, text=text: put(path, text.encode()))
            found.append((f"ledger line {place}: {name} as {value!r:.20}, may be read", act))
    return found


def craft_files(shelf: dict[str, Kind]) -> list[Try]:
    """List all hostile files, and how each is read."""
    tries: list[Try] = [
        (f"{name}: {what}" + (", may be read" if name in FREE else ""), act)
        for name, kind in shelf.items()
        for what, make in PLACES.items()
        for act in [replace_place(kind, make)]
    ]
    for name, group in (
        ("plain.npz", craft_arrays()), ("graph", craft_arrays()), ("rows.csv", TABLES),
        ("png", PICTURES), ("final model", TENSORS), ("checkpoint tensors", TENSORS),
    ):  # fmt: skip
        for what, data in group.items():
            act = replace_place(shelf[name], lambda path, data=data: put(path, data))
            tries.append((f"{name}: {what}", act))
    for name in ("final config", "run config", "group", "checkpoint", "block index"):
        tries += change_fields(shelf[name])
    folder = shelf["png"].path.parents[1]
    tries.append(("a folder named as a table", lambda: repr(read_file(folder / "run"))))
    return [*tries, *change_lines(shelf["ledger"])]
