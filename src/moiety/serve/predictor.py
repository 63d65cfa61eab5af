"""Finished models: written as safetensors and plain data, loaded by one function, used by rows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from moiety.core.axes import take_piece
from moiety.core.errors import RunError, explain_memory_error
from moiety.core.files import (
    add_digest,
    digest_bytes,
    is_intact,
    json_to_bytes,
    read_json,
    read_plain_file,
    replace_folder,
)
from moiety.core.objective import Objective
from moiety.core.protocols import Method, Serve
from moiety.core.rows import Rows, chunk_positions
from moiety.core.tensors import tensors_from_bytes, tensors_to_bytes
from moiety.core.types import Params
from moiety.models.base import FeatureModel, find_constants
from moiety.models.gated import EXPERT, GatedExperts, find_saved_constants
from moiety.models.module import from_module
from moiety.serve.adapt import SeenRows, adapt_serve
from moiety.serve.arrays import Inputs, Numbers, as_tensor
from moiety.serve.cards import cut_experts, cut_note
from moiety.serve.choose import Routed
from moiety.serve.config import (
    check_module,
    rebuild_gated,
    rebuild_model,
    rebuild_serve,
    restore_constants,
)
from moiety.serve.input_spec import InputSpec
from moiety.serve.prior import EstimatedPrior
from moiety.tasks.objective import rebuild_objective

VERSION = 3
READ = (2, VERSION)
"""Formats that are read; models of format 2 answer classes, or the characters of texts."""
MODEL, CONFIG = "model.safetensors", "config.json"
COPY = "copy both again from the run"


@dataclass(frozen=True)
class Predictor:
    """A model ready for use. ``predict`` needs no labels and trains nothing.

    Args:
        params: of the model, whole.
        model: runs on them.
        serve: how a worker uses it.
        input_spec: what it takes.
        note: where it came from.
    """

    params: Params
    model: FeatureModel | GatedExperts
    serve: Serve
    input_spec: InputSpec
    note: Mapping[str, Any]

    @property
    def objective(self) -> Objective:
        """What it answers."""
        return self.serve.objective

    def open(self, x: Inputs, edges: Numbers | None = None) -> Rows:
        """Make rows of inputs, [N, ...]; of a graph's nodes with the edges between them, [2, E]."""
        named = isinstance(x, Mapping)
        inputs = {name: as_tensor(one) for name, one in x.items()} if named else as_tensor(x)
        return self.input_spec.open(inputs, None if edges is None else as_tensor(edges))

    @torch.no_grad()
    def answer(self, rows: Rows) -> Iterator[Tensor]:
        """Give the objective's answers, a chunk of rows at a time, [B, ..., O]."""
        serve = adapt_serve(self.serve, self.params, self.model.axes, self.see(rows))
        part = serve.choose(self.params, rows)
        piece = take_piece(self.params, self.model.axes, part)
        for ids in chunk_positions(rows, self.input_spec.choose_chunk(self.objective)):
            yield serve.scores(piece, self.take_rows(rows, ids), part.axes)

    def predict_answer(self, x: Inputs, edges: Numbers | None = None) -> Tensor:
        """Give the objective's answers: log-probabilities, or numbers in the target's unit.

        All of ``x`` is taken as one worker's; the arguments are those of ``predict_log_proba``.
        """
        return torch.cat(list(self.answer(self.open(x, edges))))

    def predict_log_proba(self, x: Inputs, edges: Numbers | None = None) -> Tensor:
        """Give log-probabilities of the classes. All of ``x`` is taken as one worker's.

        Args:
            x: a tensor, or an array of numpy: rows of a table or images [N, ...]; nodes of a
                graph [N, D], with features as the data have them; or windows of a text, int64
                [N, T], numbers along ``intake.classes``; or columns by name, of a module of one's
                own that was trained on several.
            edges: of a graph, int64 [2, E], each in either direction or both.

        Returns:
            [N, C]; of windows [N, T, C], what follows at each position.

        Raises:
            ValueError: for what the model does not take.
        """
        if not self.objective.log_probabilities:
            raise ValueError(
                f"this model answers {self.objective.name}, of which there are no probabilities; "
                "take predict(x)"
            )
        return self.predict_answer(x, edges)

    def predict(self, x: Inputs, edges: Numbers | None = None) -> Tensor:
        """Give what is likeliest: classes by their number, labels as 0 and 1, numbers as they are.

        Of classes and tokens int64, along ``objective.names``; of labels int64 [N, L].
        """
        return self.objective.decide(self.predict_answer(x, edges))

    def see(self, rows: Rows) -> Rows:
        """See rows with the embedding where the model reads one."""
        return SeenRows(rows, self.model.common) if isinstance(self.model, GatedExperts) else rows

    def take_rows(self, rows: Rows, ids: Tensor) -> Mapping[str, Tensor]:
        """Take rows, with the embedding where the model reads one."""
        batch = rows.take(ids)
        return self.model.common(batch) if isinstance(self.model, GatedExperts) else batch

    def personalize(self, x: Numbers, experts: int | None = None) -> Predictor:
        """Make the model of one worker: the experts its rows choose, corrected for its classes.

        The gate keeps the rows of these experts, so that each row is answered as by the whole
        model restricted to them. Where the run was served with ``serve.prior=em``, of any method,
        the worker's shares of classes are estimated from the rows and stay with the model.

        Args:
            x: of the worker, without labels.
            experts: how many it keeps; by default two, or all of fewer; or, where the run was
                played with ``ddome.cover``, as many as its scores ask for.

        Raises:
            RunError: for a model without gated experts that estimates no shares either.
        """
        serve = self.serve
        inner = serve.inner if isinstance(serve, EstimatedPrior) else serve
        base = replace(self, serve=inner)
        if isinstance(self.model, GatedExperts) and isinstance(inner, Routed):
            base = base.keep_experts(x, experts)
        elif experts is not None or not isinstance(serve, EstimatedPrior):
            method = self.note.get("method", "this method")
            raise RunError(
                f"a model of {method} has no gated experts that a worker's rows choose among (each "
                "request finds its prompts: moiety export --format peft writes them); choose a run "
                "of ddome, or of any method with --serve.prior em, and leave --experts out"
            )
        if not isinstance(serve, EstimatedPrior):
            return base
        estimate = replace(serve, inner=base.serve)
        rows = base.see(base.open(x))
        return replace(base, serve=estimate.adapt(base.params, base.model.axes, rows))

    def keep_experts(self, x: Numbers, experts: int | None) -> Predictor:
        """Keep the experts that rows choose, and what the gate says of them."""
        model, serve = self.model, self.serve
        assert isinstance(model, GatedExperts) and isinstance(serve, Routed)  # noqa: PT018
        count = model.held(self.params) - serve.shared - len(model.closed)
        if experts is not None and not 1 <= experts <= count:
            raise RunError(f"--experts {experts}, but the model has {count}; choose 1 to {count}")
        counted = replace(serve, k=min(2, count) if experts is None else experts, cover=1.0)
        chooses = experts is None and serve.cover < 1
        kept = (serve if chooses else counted).choose(self.params, self.open(x)).axes[EXPERT]
        piece = cut_experts(self.params, model.axes, kept)
        small = replace(model, params=piece, closed=())
        note = cut_note(self.note, model.held(self.params), kept)
        kept_serve = Routed(small, None, serve.mode, self.objective, serve.shared)
        return Predictor(piece, small, kept_serve, self.input_spec, note)


def make_predictor(
    method: Method, params: Params, input_spec: InputSpec, note: Mapping[str, Any]
) -> Predictor:
    """Make a finished method ready for use."""
    model: Any = method.model
    return Predictor(params, model, method.serve, input_spec, note)


def write_model(served: Predictor, folder: Path) -> None:
    """Write a model as ``model.safetensors`` and ``config.json``, which has the digests of both."""
    model = served.model
    tensors = tensors_to_bytes({**served.params, **find_saved_constants(model)})
    about = config_to_bytes(describe_model(served), digest_bytes(tensors))
    replace_folder(folder, {MODEL: tensors, CONFIG: about})


def config_to_bytes(about: Mapping[str, Any], sha256: str) -> bytes:
    """Write ``config.json``: what a model is, and the digest of its tensors' file."""
    return json_to_bytes(add_digest({**about, "sha256": sha256}))


def describe_model(served: Predictor) -> Mapping[str, Any]:
    """Say what a model is, but for its tensors."""
    model, serve = served.model, served.serve
    if isinstance(model, GatedExperts):
        model = replace(model, params=served.params)
    plain: Any = serve
    return {
        "version": VERSION,
        "model": model.config(),
        "serve": plain.config(),
        "objective": dict(served.objective.to_json()),
        **served.input_spec.config(),
        "note": dict(served.note),
    }


def load_model(path: str | Path, module: FeatureModel | nn.Module | None = None) -> Predictor:
    """Load a finished model: a run's folder, its ``final`` folder, or a personal model's.

    Args:
        path: the folder.
        module: your own module, or ``from_module(...)`` of it, where the run was made of one.

    Raises:
        RunError: if there is no model, or it is damaged, a pickle, or of another version.
    """
    if isinstance(module, nn.Module):
        module = from_module(module)
    folder = Path(path)
    folder = folder / "final" if (folder / "final").is_dir() else folder
    config = read_config(folder)
    data = read_plain_file(folder / MODEL, "the run has not finished, or its model was moved")
    tensors = tensors_from_bytes(data, folder / MODEL)
    if digest_bytes(data) != config.get("sha256"):
        raise RunError(f"{folder / MODEL} was changed; copy it again from where it is whole")
    try:
        return assemble_model(config, tensors, module)
    except (RunError, ValueError, MemoryError):
        raise
    except Exception as error:  # builders of networks meet values of any kind here
        if explain_memory_error(error) is not None:
            raise
        raise RunError(
            f"{folder / CONFIG} does not describe {MODEL} ({error!r}); {COPY}"
        ) from error


def read_config(folder: Path) -> dict[str, Any]:
    """Read what a model is.

    Raises:
        RunError: if it cannot be read, was changed, or is of another version.
    """
    config = read_json(folder / CONFIG)
    found = config.get("version") if isinstance(config, dict) else None
    if found not in READ:
        raise RunError(
            f"{folder} has model format {found!r}, this version reads {VERSION}; "
            "load it with the version of moiety that wrote it"
        )
    if not is_intact(config):
        raise RunError(f"{folder / CONFIG} was changed; {COPY}")
    return config


def read_objective(config: Mapping[str, Any], input_spec: InputSpec) -> Objective:
    """Build what a model answers; of format 2, classes or the characters of a text."""
    texts = config.get("adapter", {}).get("kind") == "text"
    old = {"kind": "tokens" if texts else "classes", "names": list(input_spec.classes)}
    return rebuild_objective(config["objective"] if config["version"] == VERSION else old)


def assemble_model(
    config: Mapping[str, Any], tensors: Mapping[str, Tensor], module: FeatureModel | None
) -> Predictor:
    """Build a model as its configuration says, with the tensors that were read."""
    check_module(config["model"], tensors, module)
    model = (
        rebuild_gated(config["model"], tensors, module)
        if config["model"]["kind"] == "gated"
        else restore_constants(rebuild_model(config["model"], module), tensors)
    )
    constants = find_constants(model)
    params = {name: t for name, t in tensors.items() if name not in constants}
    input_spec = InputSpec.from_config(config)
    if not all(isinstance(length, int) for length in input_spec.shape) or not input_spec.classes:
        raise TypeError(f"shape {input_spec.shape} and {len(input_spec.classes)} classes")
    serve = rebuild_serve(config["serve"], model, read_objective(config, input_spec))
    for name, value in model.params.items():
        if params[name].shape != value.shape:
            raise TypeError(f"{name} is {list(params[name].shape)}, not {list(value.shape)}")
    return Predictor(params, model, serve, input_spec, dict(config["note"].items()))
