"""A folder of images: a folder per class, or images alone."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from moiety.core.extras import import_extra
from moiety.core.files import refuse_damage
from moiety.data.dataset import Dataset
from moiety.data.limits import check_unpacked_size

SUFFIXES, FORMATS = (".png", ".jpg", ".jpeg"), ("PNG", "JPEG")
GREY, COLOURED = ("1", "L"), ("RGB", "P")
REPLACE = "replace it by a PNG or JPEG image that opens in a viewer"


LEFT_BY_DESKTOPS = ("thumbs.db", "desktop.ini")
"""What Windows writes beside images, in lower case."""


def list_visible(folder: Path) -> list[Path]:
    """List what a folder holds, sorted by name; hidden files and those of desktops stay out."""
    return sorted(
        entry
        for entry in folder.iterdir()
        if not entry.name.startswith(".") and entry.name.lower() not in LEFT_BY_DESKTOPS
    )


def list_images(folder: Path) -> list[Path]:
    """List the images of a folder that holds nothing else."""
    found = list_visible(folder)
    for path in found:
        if not path.is_file() or path.suffix.lower() not in SUFFIXES:
            raise ValueError(f"{path} is no PNG or JPEG image; convert it or move it away")
    if not found:
        raise ValueError(f"{folder} is empty; put PNG or JPEG images there, or remove it")
    return found


def read_images(folder: Path, *, labels: bool = True) -> Dataset:
    """Read images of equal size, [N, 1, H, W] if all are grey, else [N, 3, H, W], in 0..1.

    Args:
        folder: one folder per class, each with images, or images alone (no labels).
        labels: False leaves out which folder an image came from.

    Raises:
        ValueError: if there are no images, one cannot be read, or they differ in size.
    """
    entries = list_visible(folder)
    kinds = [entry for entry in entries if entry.is_dir()]
    if kinds and len(kinds) < len(entries):
        loose = next(entry for entry in entries if not entry.is_dir())
        raise ValueError(f"{folder} has folders and also {loose.name}; move it into a folder")
    if not kinds:
        return Dataset(folder.name, stack_images(list_images(folder)), source=folder.name)
    files = [list_images(kind) for kind in kinds]
    x = stack_images([path for own in files for path in own])
    if not labels:
        return Dataset(folder.name, x, source=folder.name)
    y = torch.repeat_interleave(torch.tensor([len(own) for own in files]))
    return Dataset(folder.name, x, y, tuple(kind.name for kind in kinds), source=folder.name)


def read_pixels(path: Path) -> np.ndarray:
    """Read one image as viewers show it, bytes [H, W] if grey, else [H, W, 3].

    Only PNG and JPEG are tried, whatever the file's name: readers of other formats run programs.
    """
    image: Any = import_extra("PIL.Image", "reading images")
    upright: Any = import_extra("PIL.ImageOps", "reading images").exif_transpose
    about = f"{path} cannot be read as an image"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of tags that are damaged, and of sizes checked here
        with refuse_damage(about, REPLACE):
            opened = image.open(path, formats=FORMATS)
        with opened:
            check_unpacked_size(path, opened.width * opened.height * 3)
            mode = opened.mode
            if mode in GREY or mode in COLOURED:
                with refuse_damage(about, REPLACE):
                    return np.asarray(upright(opened).convert("L" if mode in GREY else "RGB"))
    raise ValueError(f"{path} has mode {mode}; convert it to 8-bit grey or RGB")


def stack_images(paths: Sequence[Path]) -> Tensor:
    """Read images into one tensor, [N, C, H, W] float32 in 0..1."""
    found: list[np.ndarray] = []
    for path in paths:
        own = read_pixels(path)
        if not found:
            packed = sum(one.stat().st_size for one in paths)
            check_unpacked_size(path.parent, len(paths) * own.size * 5, packed)
        found.append(own)
        size = found[0].shape[:2]
        if own.shape[:2] != size:
            raise ValueError(
                f"{path} is {own.shape[1]}x{own.shape[0]}, but {paths[0].name} is "
                f"{size[1]}x{size[0]}; bring all images to one size"
            )
    if any(own.ndim == 3 for own in found):
        found = [own if own.ndim == 3 else own[..., None].repeat(3, 2) for own in found]
    else:
        found = [own[..., None] for own in found]
    return torch.from_numpy(np.stack(found).transpose(0, 3, 1, 2).copy()).float().div_(255)
