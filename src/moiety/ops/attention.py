"""Attention, fast for one worker and for a stack of them.

Letters: B rows, H heads, T positions, K width of a head.
"""

import torch
import torch.nn.functional as F
from torch import Tensor
from torch._C._functorch import is_batchedtensor


def attend(q_BHTK: Tensor, k_BHTK: Tensor, v_BHTK: Tensor, *, causal: bool) -> Tensor:
    """Mix values by softmax(q k / sqrt(K)), [B, H, T, K].

    Under ``vmap`` torch's fused attention falls back to a loop over workers, so the formula is
    written out there; for a single batch the fused call is the fastest.

    >>> one = torch.eye(2)[None, None]
    >>> attend(one, one, one, causal=True)[0, 0, 0].tolist()
    [1.0, 0.0]
    """
    if not is_batchedtensor(q_BHTK):
        return F.scaled_dot_product_attention(q_BHTK, k_BHTK, v_BHTK, is_causal=causal)
    scores = q_BHTK @ k_BHTK.transpose(-1, -2) * q_BHTK.shape[-1] ** -0.5
    if causal:
        size = scores.shape[-1]
        ahead = torch.ones(size, size, dtype=torch.bool, device=scores.device).triu(1)
        scores = scores.masked_fill(ahead, -torch.inf)
    return scores.softmax(-1) @ v_BHTK
