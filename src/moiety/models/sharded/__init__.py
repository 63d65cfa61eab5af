"""Models in blocks: which there are, and how each lies."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from moiety.models.graph import GraphNet
from moiety.models.normed import NormedMLP
from moiety.models.sharded.form import Form
from moiety.models.sharded.graph import GraphForm
from moiety.models.sharded.normed import NormedForm, outline

FORMS: Mapping[type, Callable[[Any], Form]] = {NormedMLP: NormedForm, GraphNet: GraphForm}

__all__ = ["FORMS", "Form", "form_of", "outline"]


def form_of(model: object) -> Form:
    """Say how a model lies in blocks.

    Raises:
        ValueError: for a model that nobody taught to, with the remedy.
    """
    for kind, make in FORMS.items():
        if isinstance(model, kind):
            return make(model)
    raise ValueError(
        f"a {type(model).__name__} has no forward pass in blocks of units; take --net.kind normed, "
        "gcn or sage, or engine='collective', which keeps the whole at every rank"
    )
