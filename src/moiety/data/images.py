"""A folder of images: a folder per class, or images alone."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from moiety.data.dataset import Dataset
from moiety.data.extras import import_extra

SUFFIXES = (".png", ".jpg", ".jpeg")


def list_visible(folder: Path) -> list[Path]:
    """List what a folder holds, sorted by name; hidden files stay out."""
    return sorted(entry for entry in folder.iterdir() if not entry.name.startswith("."))


def list_images(folder: Path) -> list[Path]:
    """List the images of a folder that holds nothing else."""
    found = list_visible(folder)
    for path in found:
        if path.is_dir() or path.suffix.lower() not in SUFFIXES:
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
    """Read one image, bytes [H, W] if grey, else [H, W, 3]."""
    image: Any = import_extra("PIL.Image", "reading images")
    try:
        with image.open(path) as opened:
            mode = opened.mode
            if mode in ("1", "L"):
                return np.asarray(opened.convert("L"))
            if mode in ("RGB", "P"):
                return np.asarray(opened.convert("RGB"))
    except (OSError, SyntaxError, ValueError, image.DecompressionBombError) as error:
        raise ValueError(f"{path} cannot be read as an image ({error}); replace it") from error
    raise ValueError(f"{path} has mode {mode}; convert it to 8-bit grey or RGB")


def stack_images(paths: Sequence[Path]) -> Tensor:
    """Read images into one tensor, [N, C, H, W] float32 in 0..1."""
    found = [read_pixels(path) for path in paths]
    size = found[0].shape[:2]
    for path, own in zip(paths, found, strict=True):
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
