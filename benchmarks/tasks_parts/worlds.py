"""The data of the benchmark of tasks, from the folder that MOIETY_DATA names."""

from __future__ import annotations

import csv
import gzip
import io
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache, partial

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import moiety
from benchmarks.tasks_parts.nets import AXES, Averaged, Following, Pixels, Units
from benchmarks.tasks_parts.simple import (
    Answer,
    fit_boosted_numbers,
    fit_following,
    fit_linear_classes,
    fit_linear_labels,
    fit_linear_numbers,
)
from moiety.core.axes import Axes
from moiety.core.extras import import_extra
from moiety.core.objective import Objective
from moiety.data.cache import find_data_file
from moiety.tasks.classes import Classes
from moiety.tasks.labels import Labels
from moiety.tasks.losses import UNSCORED
from moiety.tasks.numbers import Numbers
from moiety.tasks.tokens import Tokens

Rows = dict[str, Tensor]

LINEAR = "linear model"

WORDS = 1000
"""Words that a post is made of, the most frequent ones."""

GROUPS = (
    "alt.atheism", "comp.graphics", "comp.os.ms-windows.misc", "comp.sys.ibm.pc.hardware",
    "comp.sys.mac.hardware", "comp.windows.x", "misc.forsale", "rec.autos", "rec.motorcycles",
    "rec.sport.baseball", "rec.sport.hockey", "sci.crypt", "sci.electronics", "sci.med",
    "sci.space", "soc.religion.christian", "talk.politics.guns", "talk.politics.mideast",
    "talk.politics.misc", "talk.religion.misc",
)  # fmt: skip
"""Newsgroups, in the order of their labels; the words of a name are labels of its posts."""


@dataclass(frozen=True)
class World:
    """A task: rows, who holds them, a network, and how it is trained.

    Args:
        objective: what is learnt.
        train: columns ``x`` and ``y``.
        test: likewise.
        owners: who holds each training row.
        test_owners: whose each test row is.
        net: makes the network, with values of torch's own.
        loss: what the plain loop minimises, of outputs and targets.
        axes: of the network's hidden units.
        simple: plain models of other kinds, by name: fitted to the training rows, they answer.
        rounds: passes of the plain loop over all rows.
        owner_rounds: rounds of owners, who make few steps in each.
        lr: learning rate, of which each line chooses a multiple.
        common: makes the network that embeds rows for a gate, of the same parameters.
    """

    objective: Objective
    train: Rows
    test: Rows
    owners: Tensor
    test_owners: Tensor
    net: Callable[[], nn.Module]
    loss: Callable[[Tensor, Tensor], Tensor]
    axes: Axes
    simple: Mapping[str, Callable[[Rows], Answer]]
    rounds: int = 8
    owner_rounds: int = 30
    lr: float = 0.1
    common: Callable[[], nn.Module] | None = None


def shuffled(count: int, what: str) -> Tensor:
    """Shuffle positions, the same on every machine."""
    return torch.randperm(count, generator=moiety.stream(0, "tasks", what))


def select(rows: Rows, ids: Tensor) -> Rows:
    """Select rows."""
    return {name: column[ids] for name, column in rows.items()}


def read_csv(file: str) -> list[dict[str, str]]:
    """Read a compressed table."""
    csv.field_size_limit(1 << 24)
    text = gzip.decompress(find_data_file(file).read_bytes()).decode()
    return list(csv.DictReader(io.StringIO(text)))


def read_california(share: float) -> World:
    """Read house values; workers are ten bands of longitude. Features end at 4 deviations."""
    raw = read_csv("reg_california_housing.csv.gz")
    target, place = "median_house_value", "ocean_proximity"
    names = [name for name in raw[0] if name not in (target, place)]
    x = torch.tensor([[float(row[n] or "nan") for n in names] for row in raw])
    kinds = sorted({row[place] for row in raw})
    near = torch.tensor([[float(row[place] == kind) for kind in kinds] for row in raw])
    y = torch.tensor([[float(row[target])] for row in raw]) / 1000
    order = shuffled(len(raw), "california")[: int(share * 5000)]
    cut = len(order) * 4 // 5
    first, last = order[:cut], order[cut:]
    x = torch.where(x.isnan(), x[first].nanmedian(0).values, x)
    x = ((x - x[first].mean(0)) / x[first].std(0)).clamp(-4, 4)
    rows = {"x": torch.cat([x, near], 1), "y": y}
    bounds = torch.quantile(x[first][:, 0], torch.linspace(0.1, 0.9, 9))
    bands = torch.bucketize(x[:, 0].contiguous(), bounds)
    objective = Numbers(("median_house_value, 1000 $",)).fit(y[first])
    shift, scale = y[first].mean(), y[first].std(correction=0)
    features = rows["x"].shape[1]
    return World(
        objective, select(rows, first), select(rows, last), bands[first], bands[last],
        lambda: Units(features, 64, 1), lambda out, y: F.mse_loss(out, (y - shift) / scale),
        AXES,
        simple={LINEAR: fit_linear_numbers, "boosted trees": fit_boosted_numbers},
    )  # fmt: skip


@cache
def read_posts(share: float) -> tuple[Rows, Rows]:
    """Read posts as weights of 1,000 words (TF-IDF of the training posts), and their groups."""
    both = [read_csv(f"text_20newsgroups_{part}.csv.gz") for part in ("train", "test")]
    both = [[part[i] for i in shuffled(len(part), "posts")[: int(share * 3000)]] for part in both]
    text = import_extra("sklearn.feature_extraction.text", "weighing words")
    words = text.TfidfVectorizer(max_features=WORDS, sublinear_tf=True, stop_words="english")
    words.fit([row["text"] for row in both[0]])
    first, last = (
        {
            "x": torch.tensor(words.transform([r["text"] for r in part]).toarray()).float() * 10,
            "y": torch.tensor([int(row["label"]) for row in part]),
        }
        for part in both
    )
    return first, last


def own_two_groups(y: Tensor) -> Tensor:
    """Give every worker two neighbouring groups: half of each group to either of two workers."""
    half = torch.arange(len(y)) % 2
    return (y + half) % len(GROUPS)


def read_newsgroups(share: float) -> World:
    """Read posts whose newsgroup is to be told."""
    first, last = read_posts(share)
    return World(
        Classes(GROUPS), first, last, own_two_groups(first["y"]), own_two_groups(last["y"]),
        lambda: Units(WORDS, 64, len(GROUPS)), F.cross_entropy, AXES,
        simple={LINEAR: partial(fit_linear_classes, classes=len(GROUPS))},
    )  # fmt: skip


def read_topics(share: float) -> World:
    """Read posts of which the words of their newsgroup's name are to be told: a set of labels."""
    first, last = read_posts(share)
    counts = Counter(word for group in GROUPS for word in group.split("."))
    words = tuple(sorted(counts))
    table = torch.tensor([[float(w in group.split(".")) for w in words] for group in GROUPS])
    owners, others = own_two_groups(first["y"]), own_two_groups(last["y"])
    first, last = ({**rows, "y": table[rows["y"]]} for rows in (first, last))
    return World(
        Labels(words), first, last, owners, others, lambda: Units(WORDS, 64, len(words)),
        F.binary_cross_entropy_with_logits, AXES, simple={LINEAR: fit_linear_labels},
    )  # fmt: skip


def read_roles(share: float) -> World:
    """Read 8,000 characters of each of Shakespeare's 8 longest roles, in windows of 32."""
    spoken: dict[tuple[str, str], list[str]] = {}
    for row in read_csv("shakespeare_by_role.csv.gz"):
        spoken.setdefault((row["play"], row["speaker"]), []).append(row["text"].lower())
    texts = sorted(("\n".join(said) for said in spoken.values()), key=len, reverse=True)
    texts = [text[:8_000] for text in texts[: max(4, int(8 * share))]]
    known = sorted({sign for text in texts for sign in text})
    place = {sign: number for number, sign in enumerate(known)}
    parts: Mapping[bool, list[tuple[Tensor, int]]] = {True: [], False: []}
    for owner, text in enumerate(texts):
        ids = torch.tensor([place[sign] for sign in text])
        windows = ids[: (len(ids) - 1) // 32 * 32 + 1].unfold(0, 33, 32)
        cut = len(windows) * 4 // 5
        parts[True].append((windows[:cut], owner))
        parts[False].append((windows[cut:], owner))
    (first, owners), (last, others) = (join_windows(parts[part]) for part in (True, False))
    return World(
        Tokens(tuple(known)), first, last, owners, others, lambda: Following(len(known), 96),
        lambda out, y: F.cross_entropy(out.flatten(0, 1), y.flatten(), ignore_index=UNSCORED),
        {f"units.{name}": entries for name, entries in AXES.items()},
        simple={"counts of pairs": partial(fit_following, tokens=len(known))},
        common=lambda: Averaged(len(known), 96),
    )  # fmt: skip


def join_windows(parts: list[tuple[Tensor, int]]) -> tuple[Rows, Tensor]:
    """Join the windows of all owners, and say whose each is."""
    windows = torch.cat([one for one, _ in parts])
    owners = torch.cat([torch.full((len(one),), owner) for one, owner in parts])
    return {"x": windows[:, :-1].contiguous(), "y": windows[:, 1:].contiguous()}, owners


def read_femnist(share: float) -> World:
    """Read written characters; workers are 16 writers."""
    raw = np.load(find_data_file("femnist_sample.npz"))
    x = 1 - torch.tensor(raw["x"]).float() / 255
    y, writer = torch.tensor(raw["y"]).long(), torch.tensor(raw["writer"]).long()
    split = torch.tensor(raw["split"])
    few = writer < max(8, int(16 * share))
    first, last = ((split == part) & few for part in (0, 1))
    rows = {"x": x, "y": y}
    names = tuple("0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz")
    return World(
        Classes(names), select(rows, first), select(rows, last), writer[first], writer[last],
        lambda: Pixels(196, 64, len(names)), F.cross_entropy, AXES,
        simple={LINEAR: partial(fit_linear_classes, classes=len(names))},
    )  # fmt: skip


WORLDS: Mapping[str, Callable[[float], World]] = {
    "california": read_california,
    "newsgroups": read_newsgroups,
    "topics": read_topics,
    "roles": read_roles,
    "femnist": read_femnist,
}
"""Name -> what reads a share of it."""
