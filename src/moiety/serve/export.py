"""A finished model as one file that needs nothing of this package: of torch.export, or ONNX.

Letters: N rows, O outputs.
"""

from __future__ import annotations

import logging
import math
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from moiety.core.axes import read_axis_lengths
from moiety.core.errors import RunError, UnknownNameError, explain_os_error
from moiety.core.extras import import_extra
from moiety.core.files import json_to_bytes, replace_file
from moiety.core.protocols import Kept
from moiety.core.streams import stream
from moiety.core.types import Batch, Params
from moiety.models.gated import GatedExperts
from moiety.serve.adapt import AdaptiveServe
from moiety.serve.predictor import Predictor

TRIED = 7
"""Rows that a written file is tried on; more than two, so that none is taken for a fixed size."""

NEAR = 1e-4
"""The largest difference between answers, beside 1, that rounding explains."""

RunFile = Callable[[Tensor], Tensor]
"""Inputs [N, ...] -> answers [N, ...]."""

WriteFile = Callable[[ExportedProgram, Path], RunFile]
"""Writes a program; gives what runs the file."""


class AnsweringModule(nn.Module):
    """A finished model as a module of inputs alone: it scales them, runs, and answers.

    Args:
        served: the model.
        kept: axis -> indices at hand, as the model's way to serve chose them.
    """

    def __init__(self, served: Predictor, kept: Kept) -> None:
        super().__init__()
        self.served, self.kept = served, kept
        self.names = list(served.params)
        for place, name in enumerate(self.names):  # a name of a buffer has no dots
            self.register_buffer(f"p{place}", served.params[name])

    def forward(self, x: Tensor) -> Tensor:
        """Answer rows, [N, ...]."""
        served = self.served
        params = {name: self.get_buffer(f"p{place}") for place, name in enumerate(self.names)}
        scale = served.input_spec.scale
        batch: Batch = {"x": scale.apply(x) if len(scale.mean) else x}
        if isinstance(served.model, GatedExperts):
            batch = served.model.common(batch)
        return served.serve.scores(params, batch, self.kept)


def choose_for_all(served: Predictor, x: Tensor) -> Kept:
    """Choose what serves any rows.

    Raises:
        RunError: where a model is first fitted to the rows of a worker.
    """
    part = served.serve.choose(served.params, served.see(served.open(x)))
    sizes = read_axis_lengths(served.params, served.model.axes)
    fewer = [axis for axis, ids in part.axes.items() if len(ids) < sizes[axis]]
    if fewer or isinstance(served.serve, AdaptiveServe):
        raise RunError(
            "this model looks at all rows of a worker before it answers one, which no file of one "
            "graph can do; make the model of a worker (moiety personalize) and export that"
        )
    return part.axes


def draw_inputs(served: Predictor) -> Tensor:
    """Draw inputs of the form that a model takes, to try files on, [N, ...]."""
    spec = served.input_spec
    return spec.adapter.draw(TRIED, spec.shape, stream(0, "export"))


@torch.no_grad()
def trace_model(served: Predictor) -> ExportedProgram:
    """Trace a model for any number of rows.

    Raises:
        RunError: for a model that answers no row on its own, or whose code cannot be traced.
    """
    x = draw_inputs(served)
    module = AnsweringModule(served, choose_for_all(served, x)).eval()
    try:
        return torch.export.export(module, (x,), dynamic_shapes=({0: Dim("rows", min=1)},))
    except Exception as error:  # of many types: whatever the network's code does meets it here
        told = str(error).strip().partition("\n")[0]
        raise RunError(
            f"torch.export cannot trace {type(served.model).__name__}: {told}"
        ) from error


def write_torch(program: ExportedProgram, path: Path) -> RunFile:
    """Write a program of ``torch.export``; gives what runs the file."""
    torch.export.save(program, path)
    return torch.export.load(path).module()


ONNX_BYTES = 2**31
"""What a file of ONNX, which is one message of protobuf, must stay below."""


def write_onnx(program: ExportedProgram, path: Path) -> RunFile:
    """Write ONNX; gives what runs the file."""
    purpose = "writing ONNX"
    for needed in ("onnx", "onnxscript"):
        import_extra(needed, purpose, "onnx")
    reference = import_extra("onnx.reference", purpose, "onnx")
    size = sum(t.numel() * t.element_size() for t in program.state_dict.values())
    if size >= ONNX_BYTES:
        raise RunError(
            f"the model has {size:,} bytes, and a file of ONNX holds fewer than {ONNX_BYTES:,}; "
            "choose --format torch"
        )
    with silence_exporter():
        found = torch.onnx.export(program, dynamo=True, verbose=False, input_names=["x"],
                                  output_names=["answer"])  # fmt: skip
    assert found is not None
    found.save(path)
    run = reference.ReferenceEvaluator(str(path))
    return lambda x: torch.from_numpy(run.run(None, {"x": x.numpy()})[0])


@contextmanager
def silence_exporter() -> Iterator[None]:
    """Leave out what torch's exporter says of itself and of libraries that it does not need."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


EXPORT_FORMATS: Mapping[str, WriteFile] = {
    "torch": write_torch,
    "onnx": write_onnx,
}
"""Name -> what writes a file and gives what runs it."""


def write_file(write: WriteFile, program: ExportedProgram, path: Path) -> RunFile:
    """Write a file; gives what runs it.

    Raises:
        RunError: where it cannot be written.
    """
    try:
        path.touch()
        return write(program, path)
    except OSError as error:
        raise RunError(f"cannot write {path.parent}: {explain_os_error(error)}") from error
    except RuntimeError as error:  # what torch makes of a full disk
        told = str(error).strip().partition("\n")[0]
        raise RunError(f"cannot write a file in {path.parent}: {told}") from error


def export_model(served: Predictor, path: Path, form: str) -> float:
    """Write a model as a file, try it, and write beside it what goes in and comes out.

    Args:
        served: the model; of ``ddome`` a personal one.
        path: of the file; ``path`` with ``.json`` behind describes it.
        form: ``torch`` or ``onnx``; or ``peft``, a folder, of what was learnt beside a language
            model.

    Returns:
        The largest difference from the model's own answers on rows that were drawn; 0 of ``peft``.

    Raises:
        UnknownNameError: for another form.
        RunError: for a model that cannot be exported, and where answers differ.
    """
    programs = {name: partial(export_program, write) for name, write in EXPORT_FORMATS.items()}
    formats = {**programs, "peft": export_adapter}
    if form not in formats:
        raise UnknownNameError(f"format {form!r}; choose one of {tuple(formats)}")
    return formats[form](served, path)


@runtime_checkable
class Adapting(Protocol):
    """A model that is learnt beside a frozen one, and saved without it."""

    def save_adapter(self, params: Params, folder: str | Path) -> None: ...


def export_adapter(served: Predictor, path: Path) -> float:
    """Write what was learnt beside a language model as a folder that PEFT opens."""
    if not isinstance(served.model, Adapting):
        raise RunError(
            f"a model of {served.note.get('method', 'this method')} is no adapter of a language "
            f"model; choose --format {' or '.join(EXPORT_FORMATS)}"
        )
    served.model.save_adapter(served.params, path)
    return 0.0


def export_program(write: WriteFile, served: Predictor, path: Path) -> float:
    """Write a model as a file that runs, as ``export_model`` says."""
    program = trace_model(served)
    beside = path.with_name(f".{path.name}.new.{path.suffix.removeprefix('.') or 'model'}")
    try:
        gap = measure_gap(served, write_file(write, program, beside))
        if gap > NEAR:
            raise RunError(
                f"the file answered otherwise than the model, by {gap:.2g}, and was taken away; "
                f"choose another --format of {tuple(EXPORT_FORMATS)}"
            )
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)
    replace_file(path.with_name(f"{path.name}.json"), json_to_bytes(describe_export(served)))
    return gap


def measure_gap(served: Predictor, run: RunFile) -> float:
    """Give the largest difference from the model's answers, beside 1; infinite for other shapes."""
    gap = 0.0
    for count in (TRIED, 1, 3):  # none of these is fixed in the file
        x = draw_inputs(served)[:count]
        mine, told = served.predict_answer(x), run(x)
        if told.shape != mine.shape:
            return math.inf
        far = ((told - mine).abs() / mine.abs().clamp_min(1)).nan_to_num(math.inf)
        alike = (told == mine) | (told.isnan() & mine.isnan())
        gap = max(gap, float(far.masked_fill(alike, 0).max()))
    return gap


def describe_export(served: Predictor) -> Mapping[str, object]:
    """Say what goes in and comes out, as plain data."""
    spec, objective = served.input_spec, served.objective
    x = draw_inputs(served)
    return {
        "inputs": {
            "x": {
                "dtype": str(x.dtype).removeprefix("torch."),
                "shape": ["rows", *x.shape[1:]],
                "columns": list(spec.columns),
            }
        },
        "answer": {
            "kind": objective.name,
            "names": list(objective.names),
            "log_probabilities": objective.log_probabilities,
        },
        "note": dict(served.note),
    }
