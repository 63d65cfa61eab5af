"""Train a large model by training its parts, wherever the data live.

A model is split into parts, workers solve the parts, the parts are merged into a model.
"""

from moiety.core.axes import Along, Part, add_at, take
from moiety.core.protocols import Method
from moiety.core.rows import Seen, TableRows
from moiety.core.state import State
from moiety.core.streams import stream
from moiety.data.stream import fit_streamed, parquet_rows
from moiety.engine.choose import choose
from moiety.engine.choose import make as make_engine
from moiety.methods import METHODS
from moiety.methods.task import Local, Task
from moiety.models.cnn import cnn
from moiety.models.gated import common_expert
from moiety.models.mlp import linear, mlp
from moiety.models.module import from_module
from moiety.models.normed import normed
from moiety.rounds.synchronous import begin, commit, dispatch, play
from moiety.run.train import Conduct, train
from moiety.serve.predictor import load

__all__ = [
    "METHODS",
    "Along",
    "Conduct",
    "Local",
    "Method",
    "Part",
    "Seen",
    "State",
    "TableRows",
    "Task",
    "add_at",
    "begin",
    "choose",
    "cnn",
    "commit",
    "common_expert",
    "dispatch",
    "fit_streamed",
    "from_module",
    "linear",
    "load",
    "make_engine",
    "mlp",
    "normed",
    "parquet_rows",
    "play",
    "stream",
    "take",
    "train",
]
