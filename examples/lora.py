"""Low-rank adapters on a frozen backbone: only the adapters travel, round by round."""

import torch
from sklearn.datasets import load_digits
from torch import nn

import moiety


class LowRank(nn.Module):
    """A frozen linear layer plus a trained product of two thin matrices, zero at first."""

    def __init__(self, layer: nn.Linear, rank: int) -> None:
        super().__init__()
        self.layer = layer.requires_grad_(requires_grad=False)
        self.down = nn.Linear(layer.in_features, rank, bias=False)
        self.up = nn.Linear(rank, layer.out_features, bias=False)
        nn.init.uniform_(self.down.weight, -0.1, 0.1, generator=rng)
        nn.init.zeros_(self.up.weight)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Apply both."""
        return self.layer(x) + self.up(self.down(x))


def train_backbone(net: nn.Module, x: torch.Tensor, y: torch.Tensor) -> None:
    """Train on upright digits, which somebody else had."""
    optimizer = torch.optim.Adam(net.parameters(), lr=0.005)
    for _ in range(60):
        optimizer.zero_grad()
        nn.functional.cross_entropy(net(x), y).backward()
        optimizer.step()


rng = moiety.stream(0, "first")
digits = load_digits()
y = torch.tensor(digits.target)
upright = torch.tensor(digits.images / 16).float()
x = upright.transpose(1, 2).flatten(1)  # the workers' digits lie on their side
backbone = nn.Sequential(nn.Linear(64, 256), nn.ReLU(), nn.Linear(256, 10))
for values in backbone.parameters():
    nn.init.uniform_(values, -0.1, 0.1, generator=rng)
train_backbone(backbone, upright.flatten(1), y)

net = nn.Sequential(LowRank(backbone[0], 4), nn.ReLU(), LowRank(backbone[2], 4))
method = moiety.METHODS["fedavg"].make(
    moiety.Task(moiety.from_module(net), moiety.LocalTraining(lr=0.05, epochs=2))
)
table = {"x": x, "y": y}
workers = {w: moiety.TableRows(table, torch.arange(w, 1200, 6)) for w in range(6)}
engine = moiety.make_engine("serial", workers.__getitem__)
state = moiety.initialise_state(method)
for _ in range(15):
    state = moiety.play_round(method, engine, state, cohort=range(6), seed=0)


def count_bytes(tensors: dict[str, torch.Tensor]) -> int:
    """Count bytes."""
    return sum(t.numel() * t.element_size() for t in tensors.values())


def measure_accuracy(params: dict[str, torch.Tensor]) -> float:
    """Give the accuracy on rows that no worker has."""
    scores = method.serve.scores(params, {"x": x[1200:]}, {})
    return (scores.argmax(1) == y[1200:]).float().mean().item()


down, once = count_bytes(state.params), count_bytes(method.constants)
before, after = measure_accuracy(method.model.params), measure_accuracy(state.params)
print(f"accuracy {before:.3f}, adapted {after:.3f}")
print(f"{down} bytes a round each way; {once} bytes of backbone, once")
assert after > before + 0.2
assert once > 8 * down
