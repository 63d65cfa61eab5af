"""Text classification in twenty lines: which library does a sentence of documentation come from."""

from tempfile import TemporaryDirectory
from zlib import crc32

import numpy
import torch
from scipy import special

import moiety

libraries = {"numpy": numpy, "scipy": special, "torch": torch}
texts = [
    (str(getattr(library, name).__doc__)[:400].replace(name, ""), label, name)
    for label, library in enumerate(libraries.values())
    for name in sorted(vars(library))
    if name[0].islower() and callable(getattr(library, name))
]
words = [
    torch.tensor([1 + crc32(w.encode()) % 2048 for w in text.split()][:40]) for text, *_ in texts
]
x = torch.nn.utils.rnn.pad_sequence(words, batch_first=True)  # [texts, 40], 0 where a text is over
y = torch.tensor([label for _, label, _ in texts])
held = torch.tensor([crc32(name.encode()) % 5 == 0 for *_, name in texts])
owner = torch.tensor([ord(name[0]) % 4 for *_, name in texts])  # four workers, by first letter
rows = {f"team {k}": (owner == k) & ~held for k in range(4)}
workers = {team: {"x": x[mine], "y": y[mine]} for team, mine in rows.items()}

torch.manual_seed(0)
net = torch.nn.Sequential(torch.nn.EmbeddingBag(2049, 16, padding_idx=0), torch.nn.Linear(16, 3))
local = moiety.LocalTraining(optimizer="adamw", lr=0.01, epochs=1)
config = moiety.TrainConfig(rounds=15, evaluate_every=15, local=local)
with TemporaryDirectory() as folder:
    test = {"unseen": {"held out": {"x": x[held], "y": y[held]}}}
    moiety.train(net, workers, folder, config, test=test, classes=tuple(libraries))
    answer = moiety.load_model(folder, module=net).predict(x[held])

right, most = (answer == y[held]).float().mean(), y[held].bincount().max() / held.sum()
print(f"{len(texts)} texts; right {right:.3f}, the commonest library {most:.3f}")
assert right > most + 0.1
