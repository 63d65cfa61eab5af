"""Regression on a table: hospitals of unlike patients, a network each may read, errors in units."""

from tempfile import TemporaryDirectory

import torch
from sklearn.datasets import load_diabetes

import moiety
from moiety.core.objective import Metric
from moiety.methods.task import LocalTraining
from moiety.tasks.metrics import R2, RMSE, make_totals
from moiety.tasks.numbers import Numbers

features, progression = load_diabetes(return_X_y=True)
x, y = torch.tensor(features).float() * 20, torch.tensor(progression).float()
order = x[:, 0].argsort()  # by age: each hospital has patients of an age of its own
train, held = order[torch.arange(len(order)) % 5 > 0], order[::5]
hospitals = {f"hospital {k}": part for k, part in enumerate(train.chunk(4))}
workers = {name: {"x": x[rows], "y": y[rows]} for name, rows in hospitals.items()}
test = {"unseen": {"held out": {"x": x[held], "y": y[held]}}}


def count_near(answer: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Count answers within 50 units of the truth: totals that add up over rows and workers."""
    return make_totals(((answer - target.reshape(answer.shape)).abs() < 50).sum(), len(target))


near = Metric("within 50", count_near, lambda totals: float(totals[0] / totals[1]), unit="share")
objective = Numbers(("progression",), metrics=(RMSE, R2, near)).fit(y[train])

torch.manual_seed(0)
net = torch.nn.Sequential(torch.nn.Linear(10, 16), torch.nn.ReLU(), torch.nn.Linear(16, 1))
local = LocalTraining(lr=0.02, batch=32, epochs=2)
config = moiety.TrainConfig(rounds=40, evaluate_every=20, local=local, objective=objective)
with TemporaryDirectory() as folder:
    moiety.train(net, workers, folder, config, test=test)
    answer = moiety.load_model(folder, module=net).predict(x[held])

rmse = (answer[:, 0] - y[held]).square().mean().sqrt()
print(f"error {rmse:.1f}, of a constant {y[held].std():.1f}")
assert rmse < 0.8 * y[held].std()
