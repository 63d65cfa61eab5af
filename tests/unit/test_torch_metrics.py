"""Metrics of torchmetrics: added over chunks and workers, they give what the library gives."""

import pytest
import torch
from torch import nn

import moiety
from moiety.core.ledger import read_ledger
from moiety.run.evaluate import Score
from moiety.tasks.classes import Classes
from moiety.tasks.labels import Labels
from moiety.tasks.numbers import Numbers
from moiety.tasks.own import OwnLoss
from moiety.tasks.torch_metrics import score_by

torchmetrics = pytest.importorskip("torchmetrics", reason="torchmetrics is not installed")
kinds = torchmetrics.classification


def rng():
    return torch.Generator().manual_seed(0)


def drawn(name):
    """Give an objective, outputs, targets, and what the library is told of them."""
    out = torch.randn(50, 3, generator=rng())
    if name == "classes":
        y = torch.arange(50) % 3
        return Classes(("a", "b", "c")), out, y, (out.softmax(-1), y)
    if name == "labels":
        y = (out + torch.randn(50, 3, generator=rng()) > 0).float()
        return Labels(("a", "b", "c")), out, y, (out.sigmoid(), y.long())
    y = out[:, :1] * 3 + 1
    objective = Numbers(("a",)).fit(y)
    return objective, out[:, :1], y[:, 0], (objective.answer(out[:, :1])[:, 0], y[:, 0])


CASES = [
    ("classes", lambda: kinds.MulticlassAccuracy(3, average="macro"), "share", True),
    ("classes", lambda: kinds.MulticlassF1Score(3), "share", True),
    ("classes", lambda: kinds.MulticlassAUROC(3, thresholds=20), "share", True),
    ("labels", lambda: kinds.MultilabelF1Score(3), "share", True),
    ("numbers", lambda: torchmetrics.MeanSquaredError(squared=False), "", False),
    ("numbers", lambda: torchmetrics.MeanAbsoluteError(), "", False),
    ("numbers", lambda: torchmetrics.R2Score(), "share", True),
]


@pytest.mark.parametrize(("kind", "make", "unit", "up"), CASES, ids=range(len(CASES)))
def test_chunks_add_up_to_the_whole(kind, make, unit, up):
    objective, out, y, (said, true) = drawn(kind)
    whole = make()
    whole.update(said, true)
    scored = score_by(objective, [make()])
    (metric,) = scored.metrics
    score = Score(scored)
    for some in (slice(0, 7), slice(7, 8), slice(8, 50)):
        score.add(scored.answer(out[some]), y[some], None)
    assert score.value(metric) == pytest.approx(float(whole.compute()), rel=1e-5)
    assert (metric.unit, metric.higher_is_better) == (unit, up)


@pytest.mark.parametrize(("make", "said"), [
    (lambda: kinds.MulticlassAUROC(3), r"keeps \['preds', 'target'\].* no sum .*thresholds"),
    (lambda: torchmetrics.PearsonCorrCoef(), "PearsonCorrCoef keeps .* no sum over rows"),
    (lambda: kinds.MulticlassConfusionMatrix(3), "does not say whether more is better"),
    (lambda: 3, "metric 3 is none; give names"),
    (lambda: "rmse", "metric 'rmse' of classes; choose among"),
])  # fmt: skip
def test_what_does_not_add_up_is_refused_with_the_reason(make, said):
    with pytest.raises(ValueError, match=said):
        score_by(Classes(("a", "b", "c")), [make()])
    with pytest.raises(ValueError, match="names twice"):
        score_by(Classes(("a", "b")), ["accuracy", "accuracy"])


def play(folder, objective, *metrics):
    x = torch.randn(60, 4, generator=rng())
    target = (x[:, 0] > 0).long() if objective is None else x[:, :2]
    workers = {w: {"x": x[w::3], "y": target[w::3]} for w in range(3)}
    torch.manual_seed(0)
    how = moiety.TrainConfig(rounds=2, objective=objective, metrics=metrics)
    moiety.train(nn.Linear(4, 2), workers, folder, how, test={"seen": workers})
    return read_ledger(folder / "ledger.jsonl")


def test_a_run_is_scored_by_them(tmp_path):
    accuracy = torchmetrics.Accuracy(task="multiclass", num_classes=2, average="micro")
    ledger = play(tmp_path / "run", None, accuracy, "accuracy", "loss")
    names = [metric.name for metric in ledger.start.metrics]
    assert names == ["multiclass_accuracy", "accuracy", "loss"]
    for entry in ledger.evaluations:
        found = entry.groups["seen"].metrics
        assert found["multiclass_accuracy"] == pytest.approx(found["accuracy"], abs=1e-6)
    own = play(tmp_path / "own", OwnLoss(nn.L1Loss(), ("u", "v")), torchmetrics.MeanAbsoluteError())
    assert own.start.metrics[0].name == "mean_absolute_error"
    plain = play(tmp_path / "plain", OwnLoss(nn.L1Loss(), ("u", "v")))
    for one, other in zip(own.evaluations, plain.evaluations, strict=True):
        mae, loss = one.groups["seen"].metrics, other.groups["seen"].metrics
        assert mae["mean_absolute_error"] == pytest.approx(loss["loss"], rel=1e-5)
    binary = torchmetrics.Accuracy(task="binary")
    with pytest.raises(ValueError, match="metric binary_accuracy fails on a first batch"):
        play(tmp_path / "x", None, binary)
    assert not (tmp_path / "x").exists()
