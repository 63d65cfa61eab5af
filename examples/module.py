"""Your own module and your own workers: a run with ledger, checkpoints and a final model."""

import torch
from sklearn.datasets import load_digits

import moiety

pixels, digits = load_digits(return_X_y=True)
x, y = torch.tensor(pixels / 16).float(), torch.tensor(digits)
workers = {f"site {w}": {"x": x[y // 2 == w], "y": y[y // 2 == w]} for w in range(5)}

torch.manual_seed(0)
net = torch.nn.Sequential(torch.nn.Linear(64, 32), torch.nn.ReLU(), torch.nn.Linear(32, 10))
how = moiety.TrainConfig(rounds=60, method="fedprox", local=moiety.LocalTraining(lr=0.05))
moiety.train(net, workers, "runs/own", how)

guess = moiety.load_model("runs/own", net).predict(x)
print(f"accuracy {(guess == y).float().mean():.3f}")
