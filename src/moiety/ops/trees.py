"""Arithmetic over flat mappings of tensors."""

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

Tree = Mapping[str, Tensor]


def map_tree(function: Callable[..., Tensor], first: Tree, *rest: Tree) -> dict[str, Tensor]:
    """Apply a function name by name.

    >>> map_tree(torch.add, {"a": torch.ones(1)}, {"a": torch.ones(1)})
    {'a': tensor([2.])}
    """
    return {name: function(t, *(tree[name] for tree in rest)) for name, t in first.items()}


def stack_trees(trees: Sequence[Tree]) -> dict[str, Tensor]:
    """Stack trees of equal shapes along a new first dim.

    >>> stack_trees([{"a": torch.ones(2)}, {"a": torch.zeros(2)}])["a"].shape
    torch.Size([2, 2])
    """
    return {name: torch.stack([tree[name] for tree in trees]) for name in trees[0]}


def take_from_stack(tree: Tree, place: int) -> dict[str, Tensor]:
    """Take one of a stack of trees."""
    return {name: tensor[place] for name, tensor in tree.items()}


def compute_norm(tensors: Sequence[Tensor]) -> Tensor:
    """Give the Euclidean norm over all entries.

    >>> compute_norm([torch.tensor([3.0]), torch.tensor([4.0])])
    tensor(5.)
    """
    return torch.linalg.vector_norm(torch.stack([torch.linalg.vector_norm(t) for t in tensors]))


def clip_norm(tree: Tree, most: float) -> dict[str, Tensor]:
    """Scale a tree down to a norm of at most ``most``, as torch's ``clip_grad_norm_`` does."""
    factor = (most / (compute_norm(list(tree.values())) + 1e-6)).clamp(max=1.0)
    return {name: tensor * factor for name, tensor in tree.items()}
