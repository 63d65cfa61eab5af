"""One model of the experts that a worker holds: their mean, weighed by what the gate says of it.

Letters: N rows, K experts at hand.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from moiety.core.errors import RunError
from moiety.core.types import Params
from moiety.models.gated import GatedExperts
from moiety.models.stacked import PREFIX
from moiety.serve.arrays import Inputs
from moiety.serve.cards import CARDS
from moiety.serve.choose import Plain, Routed, average_gate_scores
from moiety.serve.predictor import Predictor


def average_experts(params: Params, weight_K: Tensor) -> dict[str, Tensor]:
    """Average experts at hand into one model's parameters; whole numbers are those of the first.

    >>> both = {"expert.w": torch.tensor([[0.0, 4.0], [2.0, 0.0]]), "gate.layer2.b": torch.ones(2)}
    >>> average_experts(both, torch.tensor([0.75, 0.25]))
    {'w': tensor([0.5000, 3.0000])}
    """
    return {
        name.removeprefix(PREFIX): torch.tensordot(weight_K.to(t), t, 1)
        if t.is_floating_point()
        else t[0]
        for name, t in params.items()
        if name.startswith(PREFIX)
    }


def merge_experts(served: Predictor, x: Inputs) -> Predictor:
    """Make a plain model, of the size of one expert, of a personal one.

    It reads no common expert and has no gate. Means of networks mean something where these began
    at the same values (``ddome.from_common``, experts trained beside an anchor).

    Args:
        served: of ``personalize``; all its experts are averaged.
        x: the worker's rows, without labels.

    Raises:
        RunError: for a model without experts, or whose answers are corrected by what was fitted to
            the mixture.
    """
    model = served.model
    if not isinstance(model, GatedExperts) or not isinstance(served.serve, Routed):
        method = served.note.get("method", "this method")
        raise RunError(
            f"a model of {method}, served {type(served.serve).__name__}, is not merged: take the "
            "experts of a run of ddome with serve.prior none"
        )
    with torch.no_grad():
        weight_K = average_gate_scores(model, served.params, served.open(x))
        params = average_experts(served.params, weight_K)
    note: Mapping[str, Any] = {n: told for n, told in served.note.items() if n != CARDS}
    plain: Any = model.expert
    plain = replace(plain, params=params)
    serve = Plain(plain, served.objective)
    told = {**note, "merged": [round(float(one), 4) for one in weight_K]}
    return Predictor(params, plain, serve, served.input_spec, told)
