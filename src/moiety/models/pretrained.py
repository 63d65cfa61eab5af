"""A pretrained text encoder with a linear head, of which the top blocks are trained along.

The modules are those of transformers, in the folder that is named, without dropout and with its
``eager`` attention, which engines may stack. A row is the tokens of a text, int64 [B, T], -1 where
there is none; or what the frozen part says of them (``read_ahead``). The mean of the last hidden
layer over the tokens is what the head reads, as sentence encoders pool (Reimers and Gurevych,
*Sentence-BERT*, arXiv:1908.10084, section 3).

Letters: B rows, T positions, D width, C classes, F = 1 + D, a token's place in the mask in front.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Generator, Tensor
from torch.func import functional_call

from moiety.core.axes import Axes
from moiety.core.protocols import Kept
from moiety.core.tensors import move_tensors
from moiety.core.types import Batch, Params
from moiety.models.folder import EncoderFolder, open_encoder
from moiety.models.init import draw_uniform

NO_TOKEN = -1
"""What stands in a row where a text has no token."""

EVERYTHING = -1
"""As a number of blocks: all of them, and the embeddings."""

TOGETHER = 32
"""Rows that are read at a time where no gradient is asked for."""

HEAD = ("head.weight", "head.bias")


@dataclass(frozen=True)
class PretrainedEncoder:
    """Classifies texts by the mean of a pretrained encoder's last hidden layer; has no axis to cut.

    Args:
        params: the blocks that are trained, by their names in the module; ``head.weight`` [C, D]
            and ``head.bias`` [C].
        constants: the numbers of all below, likewise.
        opened: the encoder; nothing of it is changed.
        folder: where it is.
        blocks: how many of the top are trained; -1 for all and the embeddings.
    """

    params: Params
    constants: Params
    opened: EncoderFolder
    folder: str
    blocks: int
    axes: Axes = field(default_factory=dict)
    buffers: Mapping[str, str] = field(default_factory=dict)
    draws_noise: bool = False
    uses_batch_statistics: bool = False

    def config(self) -> Mapping[str, Any]:
        """Say how to build this again: the folder is named, and what tells it from others."""
        told = {"folder": self.folder, "blocks": self.blocks, "mark": self.opened.mark}
        return {"kind": "pretrained", **told, "classes": len(self.params["head.bias"])}

    def place(self, device: str, /) -> PretrainedEncoder:
        """Bring what is trained and what is frozen to a device."""
        every = self.opened.tensors(device)
        frozen = {name: every[name] for name in self.constants}
        return replace(self, params=move_tensors(self.params, device), constants=frozen)

    def redraw(self, rng: Generator, /) -> Params:
        """Draw a fresh head; blocks begin as they were pretrained."""
        classes, width = self.params["head.weight"].shape
        return {**self.params, **draw_head(classes, width, rng)}

    @property
    def frozen_blocks(self) -> int:
        """How many blocks are read before the first that is trained."""
        return 0 if self.blocks == EVERYTHING else self.opened.depth - self.blocks

    def read_ahead(self, x: Tensor, /) -> Tensor:
        """Read tokens [B, T] with what is frozen: [B, T, F], or [B, D] where all blocks are."""
        if self.blocks == EVERYTHING:
            return x
        return self.in_pieces(self.read_frozen, self.constants, x)

    def in_pieces(self, read: Any, params: Params, x: Tensor) -> Tensor:
        """Read rows, a few at a time where no gradient is asked for, and no graph made of it."""
        if torch.is_grad_enabled() or torch.compiler.is_exporting() or len(x) <= TOGETHER:
            return read(params, x)
        return torch.cat([read(params, some) for some in x.split(TOGETHER)])

    def read_frozen(self, params: Params, x_BT: Tensor) -> Tensor:
        """Read tokens up to the first block that is trained."""
        mask_BT = x_BT != NO_TOKEN
        ids_BT = torch.where(mask_BT, x_BT, self.opened.padding)
        z_BTD = embed_tokens(self.opened, params, ids_BT)
        mask_BT = mask_BT.to(z_BTD)
        z_BTD = read_blocks(self.opened, params, range(self.frozen_blocks), z_BTD, mask_BT)
        if not self.blocks:
            return average_masked(z_BTD, mask_BT)
        return torch.cat([mask_BT[..., None], z_BTD], -1)

    def read_rows(self, params: Params, x: Tensor) -> Tensor:
        """Read tokens, or what the frozen part said of them, to the end: [B, D]."""
        if not x.is_floating_point():
            x = self.read_frozen(params, x)
        if x.ndim == 2:
            return x
        mask_BT, z_BTD = x[..., 0], x[..., 1:]
        trained = range(self.frozen_blocks, self.opened.depth)
        return average_masked(read_blocks(self.opened, params, trained, z_BTD, mask_BT), mask_BT)

    def features(self, params: Params, batch: Batch, /) -> Tensor:
        """Give the mean of the last hidden layer over the tokens, [B, D]."""
        return self.in_pieces(self.read_rows, {**self.constants, **params}, batch["x"])

    def logits(self, params: Params, batch: Batch, kept: Kept, /) -> Tensor:
        del kept
        return F.linear(self.features(params, batch), *(params[name] for name in HEAD))

    def forward(self, params: Params, batch: Batch, kept: Kept, /) -> tuple[Tensor, Params]:
        return self.logits(params, batch, kept), {}


def average_masked(z_BTD: Tensor, mask_BT: Tensor) -> Tensor:
    """Average over the tokens that are there, [B, D]."""
    return (z_BTD * mask_BT[..., None]).sum(1) / mask_BT.sum(1, keepdim=True).clamp_min(1)


def take_under(params: Params, prefix: str) -> dict[str, Tensor]:
    """Take the tensors of a part of the module, by their names in it."""
    return {n.removeprefix(prefix): t for n, t in params.items() if n.startswith(prefix)}


def embed_tokens(opened: EncoderFolder, params: Params, ids_BT: Tensor) -> Tensor:
    """Embed tokens with their places, [B, T, D]."""
    part = opened.module.embeddings
    held = {name: t.to(ids_BT.device) for name, t in part.named_buffers()}
    return functional_call(part, {**held, **take_under(params, "embeddings.")}, (ids_BT,))


def read_blocks(
    opened: EncoderFolder, params: Params, places: range, z_BTD: Tensor, mask_BT: Tensor
) -> Tensor:
    """Read hidden states through some blocks, [B, T, D]; nobody looks at what the mask hides."""
    hidden_B11T = (1.0 - mask_BT)[:, None, None] * torch.finfo(z_BTD.dtype).min
    for place in places:
        name = f"{opened.blocks}.{place}"
        block, held = opened.module.get_submodule(name), take_under(params, f"{name}.")
        out = functional_call(block, held, (z_BTD, hidden_B11T))
        z_BTD = out[0] if isinstance(out, tuple) else out  # as older releases of the library do
    return z_BTD


def draw_head(classes: int, width: int, rng: Generator) -> dict[str, Tensor]:
    """Draw a linear head."""
    shapes = (classes, width), (classes,)
    return {n: draw_uniform(one, width, rng) for n, one in zip(HEAD, shapes, strict=True)}


def list_trained(opened: EncoderFolder, blocks: int) -> tuple[str, ...]:
    """List what the names of trained tensors begin with.

    Raises:
        ValueError: for a number of blocks that there are not.
    """
    if blocks == EVERYTHING:
        return ("",)
    if not 0 <= blocks <= opened.depth:
        raise ValueError(
            f"pretrained.blocks={blocks}, but the encoder has {opened.depth}; choose 0 (the head "
            f"alone) to {opened.depth}, or -1 for all blocks and the embeddings"
        )
    return tuple(
        f"{opened.blocks}.{place}." for place in range(opened.depth)[opened.depth - blocks :]
    )


def assemble_encoder(folder: str, blocks: int, classes: int, rng: Generator) -> PretrainedEncoder:
    """Put a fresh head on the encoder in a folder."""
    opened = open_encoder(folder)
    begun, tensors = list_trained(opened, blocks), opened.tensors(torch.empty(0).device.type)
    trained = {n: t for n, t in tensors.items() if n.startswith(begun)} if begun else {}
    frozen = {n: t for n, t in tensors.items() if n not in trained}
    head = draw_head(classes, opened.module.config.hidden_size, rng)
    return PretrainedEncoder({**trained, **head}, frozen, opened, folder, blocks)


def build_pretrained(
    shape: Sequence[int],
    classes: int,
    rng: Generator,
    *,
    folder: str = "",
    blocks: int = 1,
    length: int = 64,
) -> PretrainedEncoder:
    """Train the top blocks of a pretrained encoder of texts, and a linear head on its mean.

    Args:
        shape: tokens of a row, and how many the tokenizer knows.
        classes: number of classes.
        rng: the stream of the head's first values.
        folder: of the encoder, BERT-like, as ``save_pretrained`` writes it with its tokenizer.
        blocks: how many of its top blocks are trained; 0 for the head alone, -1 for all blocks and
            the embeddings. The others are frozen: downloaded once, in no piece.
        length: tokens of a text that are read, the first.
    """
    del shape, length  # the rows have it (``moiety.data.tokens``)
    return assemble_encoder(folder, blocks, classes, rng)


def rebuild_pretrained(
    rng: Generator, *, folder: str, blocks: int, mark: str, classes: int
) -> PretrainedEncoder:
    """Put a head on an encoder as ``config()`` says.

    Raises:
        ValueError: if the folder holds another encoder than that of training.
    """
    check_mark(folder, mark)
    return assemble_encoder(folder, blocks, classes, rng)


def check_mark(folder: str, mark: str) -> EncoderFolder:
    """Open an encoder that must be the one that was met before.

    Raises:
        ValueError: if it is another one.
    """
    opened = open_encoder(folder)
    if opened.mark != mark:
        raise ValueError(
            f"the encoder in pretrained.folder={folder!r} is not the one that this was trained "
            "with; bring that one back"
        )
    return opened
