"""Numbers of a language model that are set to 0 before a gate is taught: what the rest is put on.

Letters: B rows, T positions, N tokens, O outputs, I inputs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from moiety.prompts.families import find_family

Mask: TypeAlias = Callable[[Tensor, Tensor, float], Tensor]
"""A matrix [O, I], the Gram matrix of its inputs [I, I] and a share -> the matrix with zeros."""

WIDTH, DAMPING = 128, 0.01
"""Columns whose zeros SparseGPT chooses together; the share of the mean square that it adds."""


def find_least(score_ON: Tensor, share: float) -> Tensor:
    """Find the smallest entries of each row, a share of them.

    >>> find_least(torch.tensor([[3.0, 1.0], [1.0, 2.0]]), 0.5).tolist()
    [[False, True], [True, False]]
    """
    places = score_ON.argsort(1)[:, : round(share * score_ON.shape[1])]
    return torch.zeros_like(score_ON, dtype=torch.bool).scatter_(1, places, value=True)


def drop_small(weight_OI: Tensor, gram_II: Tensor, share: float) -> Tensor:
    """Drop the smallest numbers of a whole matrix."""
    del gram_II
    least = find_least(weight_OI.abs().view(1, -1), share).view_as(weight_OI)
    return weight_OI.masked_fill(least, 0)


def drop_unused(weight_OI: Tensor, gram_II: Tensor, share: float) -> Tensor:
    """Drop, of each output, the numbers that are smallest times the norm of their input.

    References:
        Sun et al., A simple and effective pruning approach (Wanda), arXiv:2306.11695.
    """
    score_OI = weight_OI.abs() * gram_II.diagonal().sqrt()
    return weight_OI.masked_fill(find_least(score_OI, share), 0)


def drop_replaceable(weight_OI: Tensor, gram_II: Tensor, share: float) -> Tensor:
    """Drop what other inputs make up for best, column by column, and let those make up for it.

    References:
        Frantar and Alistarh, SparseGPT, arXiv:2301.00774, algorithm 1.
    """
    weight = weight_OI.masked_fill(gram_II.diagonal() == 0, 0)
    factor_II = factor_inverse(gram_II)
    for first in range(0, weight.shape[1], WIDTH):
        columns = slice(first, first + WIDTH)
        some, factor = weight[:, columns], factor_II[columns, columns]
        score = (some / factor.diagonal()).square()
        least = find_least(score.reshape(1, -1), share).view_as(some)
        lost = torch.zeros_like(some)
        for place in range(some.shape[1]):
            lost[:, place] = some[:, place] * least[:, place] / factor[place, place]
            some[:, place:] -= lost[:, place, None] * factor[place, place:]
        some.masked_fill_(least, 0)
        weight[:, columns.stop :] -= lost @ factor_II[columns, columns.stop :]
    return weight


def factor_inverse(gram_II: Tensor) -> Tensor:
    """Give the upper triangle whose square is the inverse of a damped Gram matrix, [I, I]."""
    square_I = gram_II.diagonal()
    more_I = DAMPING * square_I.mean() + (square_I == 0)
    lower = torch.linalg.cholesky(gram_II + more_I.diag())
    return torch.linalg.cholesky(torch.cholesky_inverse(lower), upper=True)


MASKS: Mapping[str, Mask] = {
    "magnitude": drop_small,
    "wanda": drop_unused,
    "sparsegpt": drop_replaceable,
}


@torch.no_grad()
def prune_language(model: Any, share: float, kind: str = "wanda", **batch: Tensor) -> Any:
    """Set a share of the numbers of every matrix of the blocks to 0, in place.

    One pass over some text: a block is pruned by what it is given behind pruned blocks, then runs.
    Embeddings, norms, shifts and the head stay. Prompts are put in, and the gate is taught,
    afterwards.

    Args:
        model: the causal language model, before an adapter.
        share: of the numbers of a matrix, from 0 to below 1.
        kind: ``magnitude``, ``wanda`` or ``sparsegpt``.
        batch: ``input_ids`` [B, T] of texts like those that will come, some dozens at least, and
            their ``attention_mask`` where they are padded.

    Returns:
        The model.

    Raises:
        ValueError: for another kind or share, a model without matrices or of no known family, and
            one whose numbers are not finite.
    """
    if kind not in MASKS or not 0 <= share < 1:
        raise ValueError(f"{kind=}, {share=}; choose one of {tuple(MASKS)} and from 0 to below 1")
    names = {module: name for name, module in model.named_modules()}
    attended_BT = batch.get("attention_mask", torch.ones_like(batch["input_ids"])).bool()
    mask = MASKS[kind]
    take = partial(
        prune_block,
        drop=lambda weight, gram: mask(weight, gram, share),
        attended=attended_BT,
        names=names,
    )
    blocks = find_family(model).find_blocks(model)
    hooks = [block.register_forward_pre_hook(take, with_kwargs=True) for block in blocks]
    training = model.training
    try:
        model.eval().base_model(**batch, use_cache=False)
    finally:
        model.train(training)
        for hook in hooks:
            hook.remove()
    return model


def prune_block(
    block: nn.Module,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    drop: Callable[[Tensor, Tensor], Tensor],
    attended: Tensor,
    names: Mapping[nn.Module, str],
) -> None:
    """Read what a block's matrices are given, and prune them, before the block runs."""
    grams = read_grams(block, args, kwargs, attended)
    if not grams:
        raise ValueError(f"{names[block]} has no matrix of floating numbers; prune a model before "
                         "it is quantised")  # fmt: skip
    for layer, gram_II in grams.items():
        weight: Any = layer.weight
        turned = not isinstance(layer, nn.Linear)  # GPT-2's layers have inputs first
        known_OI = weight.T if turned else weight
        if not bool(gram_II.isfinite().all() & known_OI.isfinite().all()):
            raise ValueError(f"{names[layer]} has numbers, or is given some, that are not finite; "
                             "take the language model anew from a sound copy")  # fmt: skip
        found_OI = drop(known_OI.double(), gram_II)
        weight.copy_(found_OI.T if turned else found_OI)


def read_grams(
    block: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], attended: Tensor
) -> Mapping[nn.Module, Tensor]:
    """Read the Gram matrix of what each matrix of a block is given, [I, I], padding left out."""
    from transformers.pytorch_utils import Conv1D

    grams: dict[nn.Module, Tensor] = {}

    def read(layer: nn.Module, given: tuple[Tensor]) -> None:
        x_NI = given[0][attended.to(given[0].device)].float()
        grams[layer] = (x_NI.T @ x_NI).double()

    layers = [one for one in block.modules() if isinstance(one, nn.Linear | Conv1D)]
    hooks = [one.register_forward_pre_hook(read) for one in layers]
    block.forward(*args, **kwargs)
    for hook in hooks:
        hook.remove()
    return grams
