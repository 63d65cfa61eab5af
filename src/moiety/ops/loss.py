"""Cross-entropy of each row, fast for one worker and for a stack of them.

Letters: B rows, C classes.
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
