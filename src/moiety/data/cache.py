"""Data sets read from the folder that the environment variable MOIETY_DATA names."""

from __future__ import annotations

import io
import lzma
import os
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from moiety.core.extras import import_extra
from moiety.core.files import refuse_damage
from moiety.data.dataset import Dataset
from moiety.data.graph import Graph, mirror_edges
from moiety.data.homes import DATA_VARIABLE, HOMES, find_data_folder

VARIABLE = DATA_VARIABLE

CLOTHES = ("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat")
CLOTHES += ("Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot")
THINGS = ("airplane", "automobile", "bird", "cat", "deer")
THINGS += ("dog", "frog", "horse", "ship", "truck")
CHARACTERS = tuple("0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz")


def find_data_file(file: str) -> Path:
    """Find a file in the folder that MOIETY_DATA names.

    Raises:
        ValueError: if the variable is not set or the file is not there; says the remedy.
    """
    path = find_data_folder() / file
    if not path.is_file() and not os.environ.get(VARIABLE):
        known = [name for name, home in HOMES.items() if file in {one.keep for one in home.files}]
        bring = f", or bring it: moiety data fetch {known[0]}" if known else ""
        raise ValueError(
            f"{file} is needed, but the environment variable {VARIABLE} is not set; set it to the "
            f"folder that holds {file} (docs/data.md lists the files){bring}"
        )
    if not path.is_file():
        raise ValueError(
            f"{path} does not exist; put {file} there, or set the environment variable "
            f"{VARIABLE} to the folder that holds it (docs/data.md lists the files)"
        )
    return path


@contextmanager
def open_data_file(file: str) -> Iterator[Path]:
    """Find a file, and tell in one sentence whatever reading it raises.

    Raises:
        ValueError: if it is not there, or is damaged; says the remedy.
    """
    path = find_data_file(file)
    remedy = "it was cut short or changed: copy it again from where it is whole"
    with refuse_damage(f"cannot read {path}", remedy):
        if not path.stat().st_size:  # which gzip takes for a whole text of no letters
            raise EOFError("the file is empty")
        yield path


@contextmanager
def open_arrays(file: str) -> Iterator[Mapping[str, np.ndarray]]:
    """Open an npz file."""
    with (
        open_data_file(file) as path,
        path.open("rb") as opened,  # which np.load leaves open where the file is damaged
        np.load(opened, allow_pickle=False) as arrays,
    ):
        yield arrays


def scale_bytes(pixels: np.ndarray) -> Tensor:
    """Bring bytes to 0..1 in float32."""
    return torch.from_numpy(np.array(pixels)).float().div_(255)


def read_idx(file: str) -> np.ndarray:
    """Read an xz-packed file in the idx format of MNIST."""
    with open_data_file(file) as path:
        raw = lzma.decompress(path.read_bytes())
        dims = raw[3]
        shape = np.frombuffer(raw, ">i4", dims, 4)
        return np.frombuffer(raw, np.uint8, offset=4 + 4 * dims).reshape(shape)


def fashion_mnist() -> Dataset:
    """Load Fashion-MNIST, [70000, 1, 28, 28]; the last 10,000 are the official test split."""
    parts = ("train", "t10k")
    x = np.concatenate([read_idx(f"fashion-mnist_{part}-images-idx3-ubyte.xz") for part in parts])
    y = np.concatenate([read_idx(f"fashion-mnist_{part}-labels-idx1-ubyte.xz") for part in parts])
    return Dataset(
        name="fashion-mnist",
        x=scale_bytes(x)[:, None],
        y=torch.from_numpy(y).long(),
        classes=CLOTHES,
        test=torch.arange(len(y)) >= 60_000,
        source="Xiao, Rasul and Vollgraf 2017, Zalando",
        licence="MIT",
    )


def read_strips(file: str) -> np.ndarray:
    """Read lossless strips of 32x32 images in a zip, [N, 32, 32, 3] of bytes."""
    image: Any = import_extra("PIL.Image", "the data set 'cifar10'")
    with open_data_file(file) as path, zipfile.ZipFile(path) as packed:
        found = [
            np.asarray(image.open(io.BytesIO(packed.read(name))).convert("RGB"))
            for name in sorted(packed.namelist())
        ]
        return np.concatenate([strip.reshape(-1, 32, 32, 3) for strip in found])


def cifar10() -> Dataset:
    """Load CIFAR-10, [40000, 3, 32, 32]; the last 10,000 are the official test split.

    The training rows are the first three of the five official batches.
    """
    files = ("cifar10_train_1.zip", "cifar10_train_2.zip", "cifar10_train_3.zip")
    with open_arrays("cifar10_labels.npz") as labels:
        y = np.concatenate([labels["train"][:30_000], labels["test"]])
    x = np.concatenate([read_strips(file) for file in (*files, "cifar10_test.zip")])
    return Dataset(
        name="cifar10",
        x=scale_bytes(x.transpose(0, 3, 1, 2)),
        y=torch.from_numpy(y).long(),
        classes=THINGS,
        test=torch.arange(len(y)) >= 30_000,
        source="Krizhevsky, Nair and Hinton 2009",
        licence="no explicit licence; free to use with citation",
    )


def femnist() -> Dataset:
    """Load a sample of FEMNIST, [18796, 1, 28, 28] on white (1), grouped by writer.

    The test split has later rows of writers seen in training and all rows of 79 further writers.
    """
    with open_arrays("femnist_sample.npz") as raw:
        x, y, writer, split = raw["x"], raw["y"], raw["writer"], raw["split"]
    return Dataset(
        name="femnist",
        x=scale_bytes(x)[:, None],
        y=torch.from_numpy(y).long(),
        classes=CHARACTERS,
        groups=torch.from_numpy(writer).long(),
        test=torch.from_numpy(split) > 0,
        source="LEAF, Caldas et al. 2018, from NIST Special Database 19",
        licence="BSD-2 (LEAF); data of the US government",
    )


def read_public_graph(file: str, name: str, source: str, licence: str) -> Dataset:
    """Read a graph of papers or authors: sparse features, undirected edges, three masks."""
    with open_arrays(file) as raw:
        shape, ends = raw["shape"], raw["indptr"]
        x = np.zeros(shape, np.float32)
        x[np.repeat(np.arange(shape[0]), np.diff(ends)), raw["indices"]] = raw["data"]
        y = torch.from_numpy(raw["labels"]).long()
        masks = [torch.from_numpy(raw[f"{part}_mask"]) for part in ("train", "val", "test")]
        edges = mirror_edges(torch.from_numpy(raw["edges"]).long())
        classes = tuple(str(place) for place in range(int(y.max()) + 1))
    return Dataset(
        name=name,
        x=torch.from_numpy(x),
        y=y,
        classes=classes,
        test=masks[2],
        graph=Graph(edges, masks[0], masks[1], torch.zeros_like(y)),
        source=source,
        licence=licence,
    )


def cora() -> Dataset:
    """Load Cora: 2,708 papers, 1,433 words, 5,278 citations; the standard split."""
    source = "Sen et al. 2008; split of Yang, Cohen and Salakhutdinov 2016"
    return read_public_graph("graph_cora.npz", "cora", source, "MIT (kimiyoung/planetoid)")


def coauthor_cs() -> Dataset:
    """Load Coauthor CS: 18,333 authors, 6,805 words, 81,894 joint papers; 20 / 30 a class."""
    source = "Shchur et al. 2018, from the Microsoft Academic Graph, KDD Cup 2016"
    return read_public_graph(
        "graph_coauthor_cs.npz", "coauthor-cs", source, "MIT (EdisonLeeeee/GraphData)"
    )
