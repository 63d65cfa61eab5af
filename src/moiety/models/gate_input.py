"""What a gate reads of a row: the common expert's last hidden layer, its answers, or the row.

Letters: B rows, D width of what is read, C outputs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from torch import Tensor

from moiety.core.types import Batch, Params
from moiety.models.base import FeatureModel, ReadsAhead


def read_answers(model: FeatureModel, params: Params, batch: Batch) -> Tensor:
    """Read what a model answers, before any softmax, [B, C].

    Raises:
        ValueError: for a model that answers a row at several places.
    """
    out = model.logits(params, batch, {})
    if out.ndim != 2:
        raise ValueError(
            f"ddome.gate_input='answers' reads one answer a row, but this network gives "
            f"{list(out.shape[1:])} for each; take 'hidden'"
        )
    return out.float()


def read_row(model: FeatureModel, params: Params, batch: Batch) -> Tensor:
    """Read the row itself, [B, D].

    Raises:
        ValueError: for a row that is no measures.
    """
    del params
    if isinstance(model, ReadsAhead) or not batch["x"].is_floating_point():
        raise ValueError(
            "ddome.gate_input='rows' reads measures, but rows here are words or codes, of which "
            "there is no mean; take 'hidden' or 'answers'"
        )
    return batch["x"].flatten(1)


def read_hidden(model: FeatureModel, params: Params, batch: Batch) -> Tensor:
    """Read the last hidden layer, [B, D]."""
    return model.features(params, batch)


HIDDEN, RAW, ROWS = "hidden", "raw", "rows"
GATE_INPUTS: Mapping[str, Callable[[FeatureModel, Params, Batch], Tensor]] = {
    HIDDEN: read_hidden,
    RAW: read_hidden,
    "answers": read_answers,
    ROWS: read_row,
}
"""What a gate may read; all but ``raw`` are standardised."""
