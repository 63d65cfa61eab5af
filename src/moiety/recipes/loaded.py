"""A common expert that is not trained: the model of a run that is over."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from moiety.core.errors import RunError
from moiety.core.objective import Objective
from moiety.core.types import Params
from moiety.data.dataset import Dataset
from moiety.data.encoding import Encoding
from moiety.data.tokens import TokenEncoding
from moiety.models.base import FeatureModel, find_constants
from moiety.recipes.options import find_method
from moiety.recipes.record import CommonExpert, Federation
from moiety.serve.adapters import TableAdapter
from moiety.serve.predictor import CONFIG, Predictor, load_model
from moiety.tasks.numbers import Numbers


def name_model_file(choice: CommonExpert) -> str:
    """Name the file that changes whenever the model does; empty where none is named."""
    if not choice.model:
        return ""
    folder = Path(choice.model)
    return str((folder / "final" if (folder / "final").is_dir() else folder) / CONFIG)


def open_common(choice: CommonExpert) -> Predictor | None:
    """Open the model that is to be the common expert; None where it is to be trained.

    Raises:
        ValueError: if there is none, or it is damaged.
    """
    if not choice.model:
        return None
    try:
        return load_model(choice.model)
    except RunError as error:
        raise ValueError(f"common.model={choice.model!r}: {error}") from error


def check_common_read(record: Federation) -> None:
    """Refuse a model that no method of a run begins at, and that finds no anchors either.

    Raises:
        ValueError: with the remedy.
    """
    if not record.common.model:
        return
    entries = [find_method(name) for name in record.methods]
    people = record.population
    finds = people.anchors > 0 and record.participation.anchors >= 0 and people.scheme != "labels"
    if not finds and not any(entry.needs_common or entry.starts_common for entry in entries):
        raise ValueError(
            f"common.model={record.common.model!r}, but of {', '.join(record.methods)} none begins "
            "at a common expert or reads one; leave it out, or take a method that does"
        )


def find_encoding(taken: Predictor, choice: CommonExpert, data: Dataset) -> Encoding | None:
    """Find how the model's columns became numbers; None where rows came as numbers.

    Raises:
        ValueError: where it read other columns than the data have.
    """
    adapter = taken.input_spec.adapter
    like = adapter.encoding if isinstance(adapter, TableAdapter) else None
    theirs, mine = ({} if one is None else one.needed for one in (like, data.encoding))
    if theirs != mine:
        raise ValueError(
            f"common.model={choice.model!r} reads the columns {list(theirs)}, but the data have "
            f"{list(mine)}, or these hold words where there were numbers; take a model of such "
            "data, or leave it out"
        )
    if isinstance(like, TokenEncoding) and isinstance(data.encoding, TokenEncoding):
        refuse_other_length(like, data.encoding, choice)
    return like


def refuse_other_length(theirs: TokenEncoding, mine: TokenEncoding, choice: CommonExpert) -> None:
    """Refuse to read other tokens of a text than a run was told to.

    Raises:
        ValueError: with both numbers.
    """
    if theirs.length != mine.length:
        raise ValueError(
            f"common.model={choice.model!r} reads {theirs.length} tokens of a text, but "
            f"pretrained.length={mine.length}; say --pretrained.length {theirs.length}"
        )


def fit_like(objective: Objective, taken: Predictor) -> Objective:
    """Keep the unit of the model's outputs, where they are numbers: its targets' mean and scale."""
    told = taken.objective
    if not isinstance(objective, Numbers) or not isinstance(told, Numbers):
        return objective
    return replace(objective, shift=told.shift, scale=told.scale)


def check_common_rows(taken: Predictor, choice: CommonExpert, data: Dataset) -> None:
    """Refuse rows that the model does not read.

    Args:
        taken: the model.
        choice: where it is from.
        data: rows as a run has them, before they are scaled.
    """
    spec, shape = taken.input_spec, tuple(data.x.shape[1:])
    if tuple(spec.shape) != shape or spec.columns != data.columns:
        raise ValueError(
            f"common.model={choice.model!r} reads rows of shape {list(spec.shape)} "
            f"{describe_columns(spec.columns)}, but the data have {list(shape)} "
            f"{describe_columns(data.columns)}; take a model of such data, or leave it out"
        )


def describe_columns(columns: tuple[str, ...]) -> str:
    """Write the first names of columns."""
    if not columns:
        return "without names"
    more = f" and {len(columns) - 3} more" if columns[3:] else ""
    return f"({', '.join(columns[:3])}{more})"


def take_common(
    taken: Predictor, choice: CommonExpert, net: FeatureModel, objective: Objective
) -> Params:
    """Take the parameters of a model for a run's network.

    Args:
        taken: the model.
        choice: where it is from.
        net: of the run.
        objective: of the run.

    Raises:
        ValueError: if it is another network, answers something else, or holds what is no number.
    """
    if describe_answers(taken.objective) != describe_answers(objective) or (
        taken.objective.names != objective.names
    ):
        raise ValueError(
            f"common.model={choice.model!r} answers {describe_answers(taken.objective)}, but the "
            f"run learns {describe_answers(objective)}; take a model of the same"
        )
    found, wanted = taken.model.config(), net.config()
    if found != wanted:
        raise ValueError(
            f"common.model={choice.model!r} is {dict(found)}, but the workers' network is "
            f"{dict(wanted)}; choose that one by --net and its options, or leave the model out"
        )
    mine, theirs = find_constants(net), find_constants(taken.model)
    if any(not torch.equal(t.cpu(), theirs[name].cpu()) for name, t in mine.items()):
        raise ValueError(
            f"common.model={choice.model!r} has other frozen numbers than the workers' network; "
            "take a model of a run with the same"
        )
    if not all(bool(torch.isfinite(t).all()) for t in taken.params.values()):
        raise ValueError(
            f"common.model={choice.model!r} holds NaN or infinity: its training diverged; take "
            "another one"
        )
    return {name: place_like(taken.params[name], t) for name, t in net.params.items()}


def place_like(tensor: Tensor, like: Tensor) -> Tensor:
    """Bring a tensor to the device and type of another."""
    return tensor.to(like.device, like.dtype)


def describe_answers(objective: Objective) -> str:
    """Say what answers are: how many, and the first names."""
    names = [str(name) for name in objective.names]
    more = ", ..." if names[3:] else ""
    by = f" by the loss {objective.loss}" if isinstance(objective, Numbers) else ""
    return f"{objective.name}{by} ({', '.join(names[:3])}{more}; {len(names)} in all)"
