"""What parts learned apart is scaled to a whole, where the objective minds and rows say so."""

from dataclasses import dataclass, replace

import pytest
import torch

from moiety.core.axes import Part, take_piece
from moiety.core.protocols import skip_calibration
from moiety.core.rows import TableRows
from moiety.engine.serial import Serial
from moiety.methods.calibration import Calibration, SumCalibration, scale_sums
from moiety.methods.heterofl import heterofl
from moiety.methods.ist import ist
from moiety.methods.task import LocalTraining, Task
from moiety.models.mlp import MLP, mlp
from moiety.models.module import from_module
from moiety.models.normed import normed
from moiety.rounds.synchronous import initialise_state, play_round
from moiety.tasks.classes import Classes
from moiety.tasks.labels import Labels
from moiety.tasks.numbers import Numbers


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def straight(size: int = 240) -> dict[str, torch.Tensor]:
    x = torch.randn(size, 4, generator=rng(1))
    return {"x": x, "y": 50 + 20 * x[:, :1] - 10 * x[:, 1:2]}


def everything(rows) -> TableRows:
    return TableRows(rows, torch.arange(len(rows["y"])))


@pytest.mark.parametrize("parts", [2, 4, 8])
def test_the_scaled_whole_is_the_mean_of_its_parts(parts):
    """A network of one hidden layer, whose parts share the bias of the output."""
    model = mlp((4, 16, 2), rng())
    x = {"x": torch.randn(5, 4, generator=rng(1))}
    told = [
        model.logits(take_piece(model.params, model.axes, Part({"h1": ids})), x, {})
        for ids in torch.arange(16).chunk(parts)
    ]
    scaled = scale_sums(model.params, model.axes, {"h1": 1 / parts})
    torch.testing.assert_close(model.logits(scaled, x, {}), torch.stack(told).mean(0))


@dataclass(frozen=True)
class Case:
    """Hidden layers, workers, and a method that cuts them."""

    hidden: tuple[int, ...]
    workers: int
    method: object


@pytest.mark.parametrize(
    "case", [Case((16,), 4, ist), Case((12, 12), 2, ist), Case((16,), 2, heterofl)]
)
def test_numbers_of_cut_networks_come_out_in_their_size(case):
    rows = straight()
    objective = Numbers(("y",)).fit(rows["y"])
    task = Task(
        mlp((4, *case.hidden, 1), rng()), LocalTraining(lr=0.05, batch=20), rounds=12,
        workers=case.workers, objective=objective,
    )  # fmt: skip
    method = case.method(task)
    hands = dict(enumerate(torch.arange(len(rows["y"])).chunk(case.workers)))
    engine = Serial({w: TableRows(rows, ids) for w, ids in hands.items()}.__getitem__)
    state = initialise_state(method)
    for _ in range(12):
        state = play_round(method, engine, state, list(hands), 0)
    whole = method.calibrate(state.params, everything(rows))
    out = method.serve.scores(whole, rows, {})
    rmse = float((out - rows["y"]).square().mean().sqrt())
    assert rmse < 0.6 * float(rows["y"].std())


class Averaging(torch.nn.Module):
    """Takes the mean over its hidden units, and so needs no scale."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden, self.out = torch.nn.Linear(4, 8), torch.nn.Linear(8, 1)

    def forward(self, x):
        h = torch.relu(self.hidden(x))
        return self.out(h / h.shape[-1])


def test_rows_decide_and_without_rows_nothing_is_done():
    axes = {"hidden.weight": ("h", None), "hidden.bias": ("h",), "out.weight": (None, "h")}
    model = from_module(Averaging(), axes)
    with torch.no_grad():
        fits = {**straight(), "y": model.logits(model.params, straight(), {})}
    found = SumCalibration(model, Numbers(("y",)), {"h": 0.25})
    assert found(model.params, everything(fits)) is model.params
    assert found(model.params, None) is model.params
    quarter = scale_sums(model.params, model.axes, {"h": 0.25})
    with torch.no_grad():
        fits["y"] = model.logits(quarter, straight(), {})
    torch.testing.assert_close(found(model.params, everything(fits)), dict(quarter))


def test_whoever_is_asked_by_the_objective():
    """Classes are used as they were merged; a model that knows what it needs says it itself."""
    plain = Task(mlp((4, 8, 3), rng()), workers=2, objective=Classes(("a", "b", "c")))
    assert isinstance(plain.model, MLP)
    assert ist(plain).calibrate is skip_calibration
    labels = ist(replace(plain, objective=Labels(("a", "b", "c")))).calibrate
    assert isinstance(labels, SumCalibration)
    assert labels.held == {"h1": 0.5}
    knows = replace(plain, model=normed((4, 8, 1), rng()), objective=Numbers(("y",)))
    assert isinstance(ist(knows).calibrate, Calibration)
