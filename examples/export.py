"""From a federation to a plain module: the saved file is the module's own state, names and all."""

from tempfile import TemporaryDirectory

import torch
from safetensors.torch import load_file
from sklearn.datasets import load_digits

import moiety

pixels, digits = load_digits(return_X_y=True)
x, y = torch.tensor(pixels / 16).float(), torch.tensor(digits)
table = {"x": x, "y": y}
workers = {w: moiety.TableRows(table, (y % 5 == w).nonzero()[:, 0]) for w in range(5)}


def build() -> torch.nn.Module:
    """Build the network, as any code of yours may; statistics of norms travel too."""
    return torch.nn.Sequential(
        torch.nn.Linear(64, 32), torch.nn.BatchNorm1d(32), torch.nn.ReLU(), torch.nn.Linear(32, 10)
    )


with TemporaryDirectory() as folder:
    task = moiety.Task(moiety.from_module(build()), moiety.LocalTraining(lr=0.05, epochs=1))
    method = moiety.METHODS["fedavg"].make(task)
    config = moiety.TrainConfig(rounds=20, evaluate_every=20)
    moiety.train(method, workers, folder, config, test={"seen": workers})
    saved = load_file(f"{folder}/final/model.safetensors")
    served = moiety.load_model(folder, module=build()).predict(x)

net = build()
net.load_state_dict(saved)  # strict: every name fits
plain = net.eval()(x).argmax(1)

print(f"the same answers: {torch.equal(plain, served)}; accuracy {(plain == y).float().mean():.3f}")
assert torch.equal(plain, served)
