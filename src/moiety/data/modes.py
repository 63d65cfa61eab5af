"""A synthetic problem that one small model cannot fit: classes of several unlike modes.

Letters: N rows, M modes, S side of an image.
"""

from __future__ import annotations

import torch
from torch import Generator, Tensor

from moiety.data.dataset import Dataset

SIDE = 12


def smooth_images(x: Tensor) -> Tensor:
    """Smooth circularly along both sides with the kernel (1/4, 1/2, 1/4), [..., S, S]."""
    for dim in (-2, -1):
        x = x / 2 + (x.roll(1, dim) + x.roll(-1, dim)) / 4
    return x


def draw_templates(count: int, rng: Generator) -> Tensor:
    """Draw smooth templates of unit standard deviation, [count, S, S]."""
    drawn = smooth_images(smooth_images(torch.randn(count, SIDE, SIDE, generator=rng)))
    return drawn / drawn.std((-2, -1), correction=0, keepdim=True)


def shift_images(x_NSS: Tensor, shift_N2: Tensor) -> Tensor:
    """Shift every image circularly by its own number of rows and columns, [N, S, S]."""
    side = torch.arange(SIDE)
    down = (side - shift_N2[:, :1]) % SIDE
    right = (side - shift_N2[:, 1:]) % SIDE
    row = torch.arange(len(x_NSS))[:, None, None]
    return x_NSS[row, down[:, :, None], right[:, None, :]]


def draw_modes(
    rng: Generator,
    *,
    num_classes: int = 10,
    num_modes: int = 6,
    noise: float = 1.0,
    train: int = 1000,
    test: int = 200,
) -> Dataset:
    """Draw noisy, shifted templates; a class is a mixture of ``num_modes`` of them.

    A template is shifted by -1, 0 or 1 along each side. Pixels are not bound to 0..1.

    Args:
        rng: the stream to draw from.
        num_classes: number of classes.
        num_modes: templates per class.
        noise: standard deviation of the noise on a pixel.
        train: training rows per class.
        test: test rows per class.

    Returns:
        Images [num_classes * (train + test), 1, 12, 12] with a test split.
    """
    template = draw_templates(num_classes * num_modes, rng)
    size = num_classes * (train + test)
    y = torch.arange(num_classes).repeat(train + test)
    mode = y * num_modes + torch.randint(num_modes, (size,), generator=rng)
    shift = torch.randint(-1, 2, (size, 2), generator=rng)
    x = shift_images(template[mode], shift)
    x = x + noise * torch.randn(x.shape, generator=rng)
    return Dataset(
        name="modes",
        x=x[:, None],
        y=y,
        classes=tuple(map(str, range(num_classes))),
        test=torch.arange(size) >= num_classes * train,
        source="drawn from a fixed seed",
        licence="none needed",
    )
