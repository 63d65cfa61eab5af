"""Objectives beyond classes to the end: stopped and gone on with, saved and loaded, in blocks."""

import numpy as np
import pytest
import torch
from torch import nn

import moiety as library
from moiety.core.keep import find_final_evaluation
from moiety.core.ledger import read_ledger
from moiety.run.loop import LEDGER
from moiety.tasks.labels import Labels
from moiety.tasks.numbers import Numbers
from moiety.tasks.own import OwnLoss

X = torch.randn(60, 4, generator=torch.Generator().manual_seed(0))


def far(out, y):
    return (out - y).abs().sum(-1).mean()


OBJECTIVES = {
    "squared": (X[:, :2] * 9 + 50, Numbers(("a", "b"))),
    "poisson": (X[:, :2].exp().round(), Numbers(("a", "b"), "poisson")),
    "labels": ((X[:, :2] > 0).float(), Labels(("a", "b"))),
    "own": (X[:, :2] * 3, OwnLoss(nn.HuberLoss(delta=0.5), ("a", "b"))),
    "function": (X[:, :2] * 3, OwnLoss(far, ("a", "b"))),
}


def net():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 2))


def play(folder, kind, watch=()):
    y, objective = OBJECTIVES[kind]
    workers = {w: (X[w::3], y[w::3]) for w in range(3)}
    local = library.LocalTraining(optimizer="adam", lr=0.02, batch=8, optimizer_state="keep")
    how = library.TrainConfig(
        rounds=5, evaluate_every=1, method="fedprox", local=local, objective=objective.fit(y)
    )
    library.train(net(), workers, folder, how, test={"seen": workers}, watch=watch)
    return (folder / "final" / "model.safetensors").read_bytes(), read_ledger(folder / LEDGER)


@pytest.mark.parametrize("kind", OBJECTIVES)
def test_a_stop_is_invisible_and_the_saved_model_answers_as_its_evaluation_says(tmp_path, kind):
    wanted, ledger = play(tmp_path / "whole", kind)
    play(tmp_path / "cut", kind, lambda entry: getattr(entry, "round", 0) == 2)
    found, again = play(tmp_path / "cut", kind)
    assert found == wanted
    assert [e.groups for e in again.evaluations] == [e.groups for e in ledger.evaluations]
    y, objective = OBJECTIVES[kind]
    objective = objective.fit(y)
    served = library.load_model(tmp_path / "whole", net())
    metric = objective.metrics[0]
    told = find_final_evaluation(ledger).groups["seen"].metrics[metric.name]
    assert find_final_evaluation(ledger).round == 5
    for worker, value in enumerate(told):
        rows, true = X[worker::3], y[worker::3]
        answer = served.predict_answer(rows)
        here = metric.value(metric.sums(answer, true))
        assert here == pytest.approx(value, rel=1e-5)
    sign = 1 if metric.higher_is_better else -1
    begun = ledger.evaluations[0].groups["seen"].metrics[metric.name]
    assert sign * sum(told) > sign * sum(begun)


def test_numbers_in_blocks_are_answered_in_their_unit(moiety, tmp_path):
    y = (X[:, 0] * 30 + 200).numpy()
    np.savez(tmp_path / "table.npz", x=X.numpy(), y=y)
    words = (
        "--methods ist --net normed --normed.hidden 8 --engine partitioned --rounds 12 "
        "--population.scheme iid --population.workers 2 --population.unseen 0 "
        "--population.public 0 --population.validation 0.2 --participation.size 2 "
        "--participation.fixed --keep.final best --local.batch 8 --out run"
    )
    said = moiety("run", "yours", "--data", "table.npz", *words.split())
    assert said.code == 0, said.err
    ledger = read_ledger(tmp_path / "run" / LEDGER)
    entry = find_final_evaluation(ledger)
    answer = np.asarray(library.load_model(tmp_path / "run").predict(X.numpy())).ravel()
    assert 150 < answer.mean() < 250
    scores = [one.groups["validation"].metrics["rmse"] for one in ledger.evaluations]
    means = [sum(one) / len(one) for one in scores]
    assert ledger.evaluations[means.index(min(means))].round == entry.round


@pytest.mark.parametrize("loss", [nn.L1Loss(), nn.functional.l1_loss])
@pytest.mark.parametrize("shapes", [((2, 1), (2,)), ((2,), (2, 1)), ((2, 1), (2, 1))])
@pytest.mark.filterwarnings("error")
def test_one_number_a_row_is_compared_with_its_own_target_alone(loss, shapes):
    """By hand: |1 - 0| and |5 - 3|; no row is paired with the target of another."""
    out, y = torch.tensor([1.0, 5.0]).reshape(shapes[0]), torch.tensor([0.0, 3.0])
    y, own = y.reshape(shapes[1]), OwnLoss(loss, ("u",))
    assert own.rows(out, y).tolist() == [1.0, 2.0]
    [metric] = own.metrics
    assert metric.value(metric.sums(out, y)) == 1.5


def test_a_cross_entropy_of_one_output_is_refused():
    """It is 0 for any output: nothing would be learnt, without a word."""
    with pytest.raises(ValueError, match="is 0 whatever they are"):
        OwnLoss(nn.CrossEntropyLoss(), ("u",))
    assert OwnLoss(nn.CrossEntropyLoss(), ("u", "v")).outputs == 2
