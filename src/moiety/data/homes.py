"""Where data sets have their public home: brought by ``moiety data fetch``, checked, kept.

Each file is checked by the digest that its home publishes, or that its bytes are known to have.
"""

from __future__ import annotations

import gzip
import lzma
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from moiety.core.extras import import_extra
from moiety.core.files import refuse_damage, replace_file

DATA_VARIABLE = "MOIETY_DATA"
"""The environment variable that names the folder of data sets."""


@dataclass(frozen=True)
class RemoteFile:
    """A file at its home, and how it is kept.

    Args:
        url: where it is.
        digest: of what is brought: ``md5:...`` or ``sha256:...``.
        keep: name of the file in the folder of data sets.
        pack: makes what is kept of what was brought.
    """

    url: str
    digest: str
    keep: str
    pack: Callable[[bytes], bytes]


@dataclass(frozen=True)
class DataHome:
    """A data set at its home: its files, and under which terms it may be used."""

    files: tuple[RemoteFile, ...]
    licence: str
    source: str


def pack_again(data: bytes) -> bytes:
    """Pack what came as gzip as xz."""
    return lzma.compress(gzip.decompress(data))


def pack_text(data: bytes) -> bytes:
    """Pack a text; the same text gives the same bytes."""
    return gzip.compress(data, mtime=0)


def pack_toronto_images(data: bytes, member: str) -> bytes:
    """Pack the images of a batch of CIFAR-10."""
    from moiety.data import cifar  # numpy is slow, and homes are listed

    return cifar.pack_strips(data, f"{cifar.FOLDER}/{member}.bin")


def pack_toronto_labels(data: bytes) -> bytes:
    """Pack the labels of CIFAR-10."""
    from moiety.data import cifar

    return cifar.pack_labels(data)


ZALANDO = "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com"
PIECES = {
    "train-images-idx3": "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
    "train-labels-idx1": "25c81989df183df01b3e8a0aad5dffbe",
    "t10k-images-idx3": "bef4ecab320f06d8554ea6380940ec79",
    "t10k-labels-idx1": "bb300cfdad3c16e7a12a480ee83cd310",
}
"""Files of Fashion-MNIST and the MD5 sums that its home publishes."""

TORONTO = "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz"
TORONTO_MD5 = "md5:c32a1d4ab5d03f1284b67883e8d87530"
"""CIFAR-10 without pickles, and the MD5 sum that its home publishes."""

PACKS: Mapping[str, Callable[[bytes], bytes]] = {
    "cifar10_labels.npz": pack_toronto_labels,
    "cifar10_test.zip": partial(pack_toronto_images, member="test_batch"),
    **{
        f"cifar10_train_{number}.zip": partial(pack_toronto_images, member=f"data_batch_{number}")
        for number in (1, 2, 3)
    },
}
"""File kept -> how it is made of the archive."""

HOMES: Mapping[str, DataHome] = {
    "cifar10": DataHome(
        tuple(RemoteFile(TORONTO, TORONTO_MD5, keep, pack) for keep, pack in PACKS.items()),
        licence="none is stated; free to use with citation",
        source="Krizhevsky 2009, Learning Multiple Layers of Features from Tiny Images",
    ),
    "fashion-mnist": DataHome(
        tuple(
            RemoteFile(
                f"{ZALANDO}/{piece}-ubyte.gz",
                f"md5:{digest}",
                f"fashion-mnist_{piece}-ubyte.xz",
                pack_again,
            )
            for piece, digest in PIECES.items()
        ),
        licence="MIT",
        source="Xiao, Rasul and Vollgraf 2017, Zalando",
    ),
    "shakespeare": DataHome(
        (
            RemoteFile(
                "https://raw.githubusercontent.com/karpathy/char-rnn/master/data/tinyshakespeare/"
                "input.txt",
                "sha256:86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed",
                "lm_tinyshakespeare.txt.gz",
                pack_text,
            ),
        ),
        licence="public domain",
        source="Karpathy 2015, char-rnn: plays of William Shakespeare",
    ),
}


def find_data_folder() -> Path:
    """Find the folder of data sets: the one that MOIETY_DATA names, else one among the caches."""
    told = os.environ.get(DATA_VARIABLE)
    if told:
        return Path(told)
    caches = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(caches) / "moiety"


def fetch_dataset(name: str, folder: Path) -> Iterator[Path]:
    """Bring the files of a data set into a folder, one after the other; those there stay.

    Raises:
        ValueError: for a set without a home here, or where a file cannot be had or is another.
    """
    if name not in HOMES:
        raise ValueError(
            f"no public home of {name!r} is known; known: {', '.join(HOMES)}. Of others "
            "docs/data.md lists the files, for the folder that MOIETY_DATA names"
        )
    library: Any = import_extra("pooch", "fetching data")
    for file in HOMES[name].files:
        path = folder / file.keep
        if not path.is_file():
            folder.mkdir(parents=True, exist_ok=True)
            about = f"{file.url} cannot be fetched"
            with refuse_damage(about, "try again later, or bring the file yourself"):
                found = library.retrieve(file.url, file.digest, path=folder / "fetched")
                data = file.pack(Path(found).read_bytes())
            replace_file(path, data)
        yield path
