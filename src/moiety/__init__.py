"""Train a large model by training its parts, wherever the data live.

A model is split into parts, workers solve the parts, the parts are merged into a model.
"""

import importlib
import importlib.util
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from moiety.core.axes import Along, Part, add_piece, take_piece
    from moiety.core.checkpoints import CheckpointPolicy
    from moiety.core.keep import Keep
    from moiety.core.objective import Metric
    from moiety.core.protocols import Method
    from moiety.core.rows import TableRows, TransformedRows
    from moiety.core.state import State
    from moiety.core.streams import stream
    from moiety.data.stream import fit_streamed_scale, parquet_rows
    from moiety.engine.choose import choose_engine, make_engine
    from moiety.methods import METHODS
    from moiety.methods.task import LocalTraining, Task
    from moiety.models.cnn import cnn
    from moiety.models.gated import common_expert
    from moiety.models.mlp import linear, mlp
    from moiety.models.module import from_module
    from moiety.models.normed import normed
    from moiety.privacy.config import PrivacyConfig
    from moiety.rounds.commit import commit_replies
    from moiety.rounds.schedule import Schedule
    from moiety.rounds.synchronous import initialise_state, make_jobs, play_round
    from moiety.run.own_run import TrainConfig
    from moiety.run.train import train
    from moiety.serve.predictor import load_model
    from moiety.serve.prior import Serving
    from moiety.tasks import Classes, Labels, Numbers, OwnLoss, Tokens
    from moiety.wire.config import WireConfig

ROOMS: Mapping[str, tuple[str, ...]] = {
    "moiety.core.axes": (
        "Along",
        "Part",
        "add_piece",
        "take_piece",
    ),
    "moiety.core.checkpoints": ("CheckpointPolicy",),
    "moiety.core.keep": ("Keep",),
    "moiety.core.objective": ("Metric",),
    "moiety.core.protocols": ("Method",),
    "moiety.core.rows": (
        "TableRows",
        "TransformedRows",
    ),
    "moiety.core.state": ("State",),
    "moiety.core.streams": ("stream",),
    "moiety.data.stream": (
        "fit_streamed_scale",
        "parquet_rows",
    ),
    "moiety.engine.choose": (
        "choose_engine",
        "make_engine",
    ),
    "moiety.methods": ("METHODS",),
    "moiety.methods.task": (
        "LocalTraining",
        "Task",
    ),
    "moiety.models.cnn": ("cnn",),
    "moiety.models.gated": ("common_expert",),
    "moiety.models.mlp": (
        "linear",
        "mlp",
    ),
    "moiety.models.module": ("from_module",),
    "moiety.models.normed": ("normed",),
    "moiety.privacy.config": ("PrivacyConfig",),
    "moiety.rounds.commit": ("commit_replies",),
    "moiety.rounds.schedule": ("Schedule",),
    "moiety.rounds.synchronous": (
        "initialise_state",
        "make_jobs",
        "play_round",
    ),
    "moiety.run.own_run": ("TrainConfig",),
    "moiety.run.train": ("train",),
    "moiety.serve.predictor": ("load_model",),
    "moiety.serve.prior": ("Serving",),
    "moiety.tasks": ("Classes", "Labels", "Numbers", "OwnLoss", "Tokens"),
    "moiety.wire.config": ("WireConfig",),
}
"""Module -> the names it gives to the package, which are imported when they are asked for."""


def __getattr__(name: str) -> Any:
    """Import what is asked for: a name, or a room; so that a command starts without the others."""
    for module, names in ROOMS.items():
        if name in names:
            return getattr(importlib.import_module(module), name)
    if name.startswith("_") or importlib.util.find_spec(f"moiety.{name}") is None:
        raise AttributeError(f"moiety has no {name!r}")
    return importlib.import_module(f"moiety.{name}")


__all__ = [
    "METHODS",
    "Along",
    "CheckpointPolicy",
    "Classes",
    "Keep",
    "Labels",
    "LocalTraining",
    "Method",
    "Metric",
    "Numbers",
    "OwnLoss",
    "Part",
    "PrivacyConfig",
    "Schedule",
    "Serving",
    "State",
    "TableRows",
    "Task",
    "Tokens",
    "TrainConfig",
    "TransformedRows",
    "WireConfig",
    "add_piece",
    "choose_engine",
    "cnn",
    "commit_replies",
    "common_expert",
    "fit_streamed_scale",
    "from_module",
    "initialise_state",
    "linear",
    "load_model",
    "make_engine",
    "make_jobs",
    "mlp",
    "normed",
    "parquet_rows",
    "play_round",
    "stream",
    "take_piece",
    "train",
]
