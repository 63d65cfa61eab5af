"""Train a large model by training its parts, wherever the data live.

A model is split into parts, workers solve the parts, the parts are merged into a model.
"""

from moiety.core.axes import Along, Part, add_piece, take_piece
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
from moiety.rounds.commit import commit_replies
from moiety.rounds.synchronous import initialise_state, make_jobs, play_round
from moiety.run.train import TrainConfig, train
from moiety.serve.predictor import load_model

__all__ = [
    "METHODS",
    "Along",
    "LocalTraining",
    "Method",
    "Part",
    "State",
    "TableRows",
    "Task",
    "TrainConfig",
    "TransformedRows",
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
