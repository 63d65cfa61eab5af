"""Finished models as files of torch.export and ONNX: they answer as the model does."""

import json
from dataclasses import replace

import pytest
import torch

from moiety.core.errors import RunError, UnknownNameError
from moiety.core.streams import stream
from moiety.data.dataset import FeatureScale
from moiety.models.cnn import cnn
from moiety.models.gated import common_expert, gated_experts
from moiety.models.mlp import mlp
from moiety.models.module import from_module
from moiety.models.transformer import build_gpt
from moiety.serve import export
from moiety.serve.adapters import TextAdapter
from moiety.serve.choose import Plain, Routed
from moiety.serve.export import export_model
from moiety.serve.input_spec import InputSpec
from moiety.serve.named import ColumnForm, NamedAdapter
from moiety.serve.predictor import Predictor, write_model
from moiety.serve.prior import Corrected
from moiety.tasks.classes import Classes
from moiety.tasks.numbers import Numbers
from moiety.tasks.tokens import Tokens

NAMES = ("a", "b", "c")
NONE = FeatureScale(torch.ones(0), torch.ones(0))


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


def make(model, objective, shape, scale, adapter=None):
    spec = InputSpec(shape, scale, objective.names)
    spec = spec if adapter is None else replace(spec, adapter=adapter)
    return Predictor(model.params, model, Plain(model, objective), spec, {"method": "fedavg"})


def scaled(width):
    return FeatureScale(torch.arange(width).float(), torch.full((width,), 2.0))


def numbers():
    fitted = Numbers(("u", "v")).fit(torch.tensor([[1.0, 50.0], [3.0, 90.0]]))
    return make(mlp((4, 8, 2), rng()), fitted, (4,), scaled(4))


def images():
    model = cnn((1, 8, 8), 3, rng(), channels=(4, 4), hidden=8)
    return make(model, Classes(NAMES), (1, 8, 8), scaled(1))


def text():
    model = build_gpt((6,), 3, rng(), width=8, heads=2, depth=2)
    return make(model, Tokens(NAMES), (6,), NONE, TextAdapter(6, NAMES))


def own_module():
    module = torch.nn.Sequential(
        torch.nn.Linear(4, 8), torch.nn.BatchNorm1d(8), torch.nn.Linear(8, 3)
    )
    adapter = NamedAdapter({"x": ColumnForm((4,), "float32")})
    return make(from_module(module), Classes(NAMES), (4,), NONE, adapter)


def mixture(k=None, mode="top1"):
    expert = mlp((4, 6, 3), rng())
    common = common_expert(expert, expert.params, torch.randn(20, 4, generator=rng(1)))
    starts = [expert.redraw(stream(0, place)) for place in range(3)]
    model = gated_experts(expert, common, starts, rng(2), hidden=5)
    spec = InputSpec((4,), scaled(4), NAMES)
    serve = Routed(model, k, mode, Classes(NAMES))
    return Predictor(model.params, model, serve, spec, {"method": "ddome"})


def corrected():
    served = mixture(mode="soft")
    return replace(served, serve=Corrected(served.serve, 1.5, (0.5, -0.5, 0.0)))


TORCH = (numbers, images, text, own_module, corrected)


@pytest.mark.parametrize("build", TORCH, ids=lambda one: one.__name__)
def test_a_program_of_torch_answers_as_the_model(build, tmp_path):
    served, path = build(), tmp_path / "model.pt2"
    assert export_model(served, path, "torch") < 1e-5
    x = served.input_spec.adapter.draw(11, served.input_spec.shape, rng(5))
    told = torch.export.load(path).module()(x)
    torch.testing.assert_close(told, served.predict_answer(x), atol=1e-5, rtol=1e-5)
    about = json.loads((tmp_path / "model.pt2.json").read_text())
    assert about["answer"]["names"] == list(served.objective.names)
    assert about["inputs"]["x"]["shape"] == ["rows", *served.input_spec.shape]


@pytest.mark.parametrize("build", [mixture], ids=lambda one: one.__name__)
def test_onnx_answers_as_the_model(build, tmp_path, monkeypatch):
    pytest.importorskip("onnxscript")
    reference = pytest.importorskip("onnx.reference")
    served, path = build(), tmp_path / "model.onnx"
    with monkeypatch.context() as small:
        small.setattr("moiety.serve.export.ONNX_BYTES", 8)
        with pytest.raises(RunError, match="bytes, and a file of ONNX holds fewer than 8; choose"):
            export_model(served, path, "onnx")
    assert not any(tmp_path.iterdir())
    assert export_model(served, path, "onnx") < 1e-5
    x = served.input_spec.adapter.draw(11, served.input_spec.shape, rng(5))
    (told,) = reference.ReferenceEvaluator(str(path)).run(None, {"x": x.numpy()})
    torch.testing.assert_close(
        torch.from_numpy(told), served.predict_answer(x), atol=1e-4, rtol=1e-4
    )


def test_what_cannot_be_a_file_is_refused(tmp_path):
    with pytest.raises(RunError, match="moiety personalize"):
        export_model(mixture(k=2), tmp_path / "a", "torch")
    with pytest.raises(UnknownNameError, match=r"'onyx'; choose .*'torch', 'onnx', 'peft'"):
        export_model(mixture(), tmp_path / "a", "onyx")
    with pytest.raises(RunError, match="no adapter of a language model; choose --format torch or"):
        export_model(numbers(), tmp_path / "a", "peft")
    several = NamedAdapter({name: ColumnForm((2,), "float32") for name in "uv"})
    served = numbers()
    with pytest.raises(ValueError, match=r"takes the columns \['u', 'v'\]"):
        export_model(replace(served, input_spec=replace(served.input_spec, adapter=several)),
                     tmp_path / "a", "torch")  # fmt: skip
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("told", [0.0, float("nan")])
def test_a_file_that_answers_otherwise_is_taken_away(tmp_path, monkeypatch, told):
    def lie(program, path):
        path.write_bytes(b"x")
        del program
        return lambda x: torch.full((len(x), 2), told)

    monkeypatch.setattr(export, "EXPORT_FORMATS", {"torch": lie})
    with pytest.raises(RunError, match="answered otherwise than the model"):
        export_model(numbers(), tmp_path / "a", "torch")
    assert not list(tmp_path.iterdir())


def test_a_file_that_cannot_be_written_is_said(tmp_path, monkeypatch):
    def fail(program, path):
        path.write_bytes(b"half")
        raise RuntimeError("PytorchStreamWriter failed writing file")

    with pytest.raises(RunError, match=r"cannot write .*/nowhere"):
        export_model(numbers(), tmp_path / "nowhere" / "a", "torch")
    monkeypatch.setattr(export, "EXPORT_FORMATS", {"torch": fail})
    with pytest.raises(RunError, match=r"cannot write a file in .*failed writing file"):
        export_model(numbers(), tmp_path / "a", "torch")
    assert not list(tmp_path.iterdir())


def test_the_command_exports_what_it_names(moiety, tmp_path):
    write_model(numbers(), tmp_path / "mine")
    said = moiety("export", "mine", "--out", "model.pt2", "--json")
    assert said.code == 0, said.err
    told = json.loads(said.out)
    assert told["bytes"] == (tmp_path / "model.pt2").stat().st_size
    assert told["difference"] < 1e-5
    again = moiety("export", "mine", "--out", "model.pt2")
    assert again.code == 1
    assert "is there already" in again.err
