"""Losses on images that are changed by chance in training: mirrored, cropped.

Letters: B rows, C channels, H rows of an image, W columns.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import pad

from moiety.core.protocols import Kept
from moiety.core.streams import stream
from moiety.core.types import Batch, Params
from moiety.tasks.objectives import Losses

IMAGE_DIMS = 3


def check_images(what: str, shape: Sequence[int]) -> None:
    """Refuse rows that are no images [C, H, W].

    Args:
        what: is to be done with them.
        shape: of a row.

    Raises:
        ValueError: with the shape and the remedy.
    """
    if len(shape) != IMAGE_DIMS:
        raise ValueError(
            f"{what} changes images, but rows have shape {tuple(shape)}; leave it out, or give "
            "rows [channels, height, width]"
        )


@dataclass(frozen=True)
class FlippedLosses:
    """Other losses on images [B, C, H, W] of which each is mirrored by chance, left to right.

    Drawn from the ``seed`` of the batch; where there is none, nothing is mirrored.
    """

    losses: Losses

    def __call__(self, params: Params, batch: Batch, kept: Kept, /) -> tuple[Tensor, Params]:
        x = batch["x"]
        check_images("local.flips", x.shape[1:])
        if "seed" in batch:
            coin_B = torch.rand(len(x), generator=stream(int(batch["seed"]), "flips")) < 0.5
            x = torch.where(coin_B.to(x.device)[:, None, None, None], x.flip(-1), x)
        return self.losses(params, {**batch, "x": x}, kept)


@dataclass(frozen=True)
class CroppedLosses:
    """Other losses on images [B, C, H, W] of which each is moved by chance, zeros moving in.

    An image is padded by ``width`` zeros on each side, and a window of its size is cut at a place
    drawn evenly from the ``seed`` of the batch; where there is none, nothing is moved.

    Args:
        losses: of what is cut.
        width: of the border.
    """

    losses: Losses
    width: int

    def __call__(self, params: Params, batch: Batch, kept: Kept, /) -> tuple[Tensor, Params]:
        x = batch["x"]
        check_images("local.crops", x.shape[1:])
        if "seed" in batch:
            rng = stream(int(batch["seed"]), "crops")
            place_B2 = torch.randint(2 * self.width + 1, (len(x), 2), generator=rng)
            x = crop_images(x, place_B2.to(x.device), self.width)
        return self.losses(params, {**batch, "x": x}, kept)


def crop_images(x: Tensor, place_B2: Tensor, width: int) -> Tensor:
    """Pad images [B, C, H, W] by zeros, and cut from each a window of its old size.

    Args:
        x: images.
        place_B2: row and column where the window of each begins, 0 to twice the width.
        width: of the border.

    >>> crop_images(torch.ones(1, 1, 2, 2), torch.tensor([[0, 1]]), 1)
    tensor([[[[0., 0.],
              [1., 1.]]]])
    """
    count, channels, height, across = x.shape
    wide = pad(x, (width,) * 4)
    rows_BH = place_B2[:, :1] + torch.arange(height, device=x.device)
    columns_BW = place_B2[:, 1:] + torch.arange(across, device=x.device)
    image_B, channel_C = torch.arange(count, device=x.device), torch.arange(channels)
    return wide[
        image_B[:, None, None, None],
        channel_C.to(x.device)[None, :, None, None],
        rows_BH[:, None, :, None],
        columns_BW[:, None, None, :],
    ]
