"""Models in blocks: which there are, and how each lies."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from moiety.blocks.form import BlockForm
from moiety.blocks.graph import GraphForm
from moiety.blocks.normed import NormedForm
from moiety.models.graph import GraphNet
from moiety.models.normed import NormedMLP

FORMS: Mapping[type, Callable[[Any], BlockForm]] = {NormedMLP: NormedForm, GraphNet: GraphForm}


def find_form(model: object) -> BlockForm:
    """Say how a model lies in blocks.

    Raises:
        ValueError: for a model that nobody taught to, with the remedy.
    """
    for kind, make in FORMS.items():
        if isinstance(model, kind):
            return make(model)
    raise ValueError(
        f"a {type(model).__name__} has no forward pass in blocks of units; take --net normed, "
        "gcn or sage, or engine='collective', which keeps the whole at every rank"
    )
