"""Federated averaging in plain loops, and through moiety: the numbers are equal, bit for bit.

The loops say all that a round of the package does where parts are whole: send the model, let every
worker descend on its own rows, average what comes back.
"""

from copy import deepcopy

import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch import nn

import moiety

SEED, ROUNDS, BATCH, LR, MOMENTUM = 0, 5, 16, 0.05, 0.9

torch.set_num_threads(1)
digits = load_digits()
x, y = torch.tensor(digits.data / 16).float(), torch.tensor(digits.target)
rows = {worker: (y // 2 == worker).nonzero()[:, 0] for worker in range(5)}  # two digits each
first = nn.Sequential(nn.Linear(64, 16), nn.ReLU(), nn.Linear(16, 10))
rng = moiety.stream(SEED, "first")
for values in first.parameters():
    nn.init.uniform_(values, -0.125, 0.125, generator=rng)


def train(model: nn.Module, x: torch.Tensor, y: torch.Tensor, rng: torch.Generator) -> None:
    """One pass over a worker's rows, in batches; a short batch counts as much as a full one."""
    optimizer = torch.optim.SGD(model.parameters(), lr=LR, momentum=MOMENTUM)
    for ids in torch.randperm(len(y), generator=rng).split(BATCH):
        losses = F.cross_entropy(model(x[ids]), y[ids], reduction="none")
        optimizer.zero_grad()
        torch.dot(losses, torch.ones(len(ids)) / len(ids)).backward()
        optimizer.step()


# In plain loops.
server = deepcopy(first)
for number in range(ROUNDS):
    total = {name: torch.zeros_like(t) for name, t in server.state_dict().items()}
    for worker, mine in rows.items():
        local = deepcopy(server)  # the server sends the model down
        rng = moiety.stream(SEED, number, worker, "plan")  # every draw has an address
        train(local, x[mine], y[mine], rng)
        for name, tensor in local.state_dict().items():  # and adds up what comes back
            total[name] += tensor
    server.load_state_dict({name: tensor / len(rows) for name, tensor in total.items()})

# Through moiety.
table = {"x": x, "y": y}
workers = {worker: moiety.TableRows(table, mine) for worker, mine in rows.items()}
local_training = moiety.LocalTraining(lr=LR, momentum=MOMENTUM, batch=BATCH, epochs=1)
task = moiety.Task(moiety.from_module(first), local_training)
method = moiety.METHODS["fedavg"].make(task)
engine = moiety.make_engine("serial", workers.__getitem__)
state = moiety.initialise_state(method)
for _ in range(ROUNDS):
    state = moiety.play_round(method, engine, state, cohort=list(rows), seed=SEED)

same = all(torch.equal(state.params[name], t) for name, t in server.state_dict().items())
print(f"equal to the bit: {same}; accuracy {(server(x).argmax(1) == y).float().mean():.3f}")
assert same
