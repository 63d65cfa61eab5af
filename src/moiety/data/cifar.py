"""CIFAR-10 as its home gives it, in the binary form, made the files that are kept.

Letters: N images of a batch.
"""

from __future__ import annotations

import io
import tarfile
import zipfile
from collections.abc import Sequence
from typing import Any

import numpy as np

from moiety.core.extras import import_extra

FOLDER = "cifar-10-batches-bin"
TRAIN = tuple(f"{FOLDER}/data_batch_{number}.bin" for number in range(1, 6))
TEST = f"{FOLDER}/test_batch.bin"

SIDE, CHANNELS = 32, 3
ROW = 1 + CHANNELS * SIDE * SIDE
"""Bytes of a label and its image, channel by channel."""

STRIP = 500
"""Images of a strip, one below the other."""

MADE = (1980, 1, 1, 0, 0, 0)
"""The date within the zips, so that the same images give the same bytes."""


def read_binary_rows(data: bytes, member: str) -> np.ndarray:
    """Read the rows of a batch, [N, 3073] of bytes: a label, then the image.

    Raises:
        ValueError: if the archive has no such batch, or it is no whole number of rows.
    """
    with tarfile.open(fileobj=io.BytesIO(data), mode="r:gz") as packed:
        file = packed.extractfile(member) if member in packed.getnames() else None
        found = b"" if file is None else file.read()
    if not found or len(found) % ROW:
        raise ValueError(f"{member} has {len(found)} bytes, no whole number of rows of {ROW}")
    return np.frombuffer(found, np.uint8).reshape(-1, ROW)


def pack_strips(data: bytes, member: str) -> bytes:
    """Pack the images of a batch as lossless strips in a zip."""
    image: Any = import_extra("PIL.Image", "fetching CIFAR-10")
    x = (
        read_binary_rows(data, member)[:, 1:]
        .reshape(-1, CHANNELS, SIDE, SIDE)
        .transpose(0, 2, 3, 1)
    )
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as packed:
        for first in range(0, len(x), STRIP):
            strip = io.BytesIO()
            pixels = np.ascontiguousarray(x[first : first + STRIP]).reshape(-1, SIDE, CHANNELS)
            image.fromarray(pixels).save(strip, "PNG")
            packed.writestr(zipfile.ZipInfo(f"{first:05d}.png", MADE), strip.getvalue())
    return made.getvalue()


def pack_labels(data: bytes, train: Sequence[str] = TRAIN, test: str = TEST) -> bytes:
    """Pack the labels of all batches, in the order of the images."""
    made = io.BytesIO()
    np.savez_compressed(
        made,
        train=np.concatenate([read_binary_rows(data, member)[:, 0] for member in train]),
        test=read_binary_rows(data, test)[:, 0],
    )
    return made.getvalue()
