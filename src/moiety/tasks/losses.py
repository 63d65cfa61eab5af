"""Cross-entropy of each row, fast for one worker and for a stack of them.

Letters: B rows, T positions, C classes.
"""

import torch.nn.functional as F
from torch import Tensor
from torch._C._functorch import is_batchedtensor

UNSCORED = -1
"""The label of what is neither learnt nor scored: a node, a token."""


def cross_entropy(logits_BC: Tensor, y_B: Tensor) -> Tensor:
    """Give the cross-entropy of each row, [B].

    Under ``vmap`` the rows of all workers are many and short, where torch's softmax takes three
    times as long as a sum of exponentials; for a single batch the fused call is the fastest.

    >>> import torch
    >>> logits, y = torch.tensor([[[0.0, 0.0]], [[1.0, 1.0]]]), torch.tensor([[0], [1]])
    >>> torch.vmap(cross_entropy)(logits, y).flatten().tolist()
    [0.6931471824645996, 0.6931471824645996]
    """
    if is_batchedtensor(logits_BC):
        return logits_BC.logsumexp(-1) - logits_BC.gather(-1, y_B[:, None])[:, 0]
    return F.cross_entropy(logits_BC, y_B, reduction="none")


def token_cross_entropy(logits_BTC: Tensor, y_BT: Tensor) -> Tensor:
    """Average the cross-entropy of a row over its positions that have a label, [B].

    >>> import torch
    >>> token_cross_entropy(torch.zeros(1, 3, 2), torch.tensor([[0, 1, -1]])).tolist()
    [0.6931471824645996]
    """
    scored = (y_BT != UNSCORED).to(logits_BTC.dtype)
    if is_batchedtensor(logits_BTC):
        true_BT = logits_BTC.gather(-1, y_BT.clamp_min(0)[..., None])[..., 0]
        each_BT = (logits_BTC.logsumexp(-1) - true_BT) * scored
    else:
        flat = logits_BTC.flatten(0, -2), y_BT.flatten()
        each = F.cross_entropy(*flat, reduction="none", ignore_index=UNSCORED)
        each_BT = each.view(y_BT.shape)
    return each_BT.flatten(1).sum(1) / scored.flatten(1).sum(1).clamp_min(1)
