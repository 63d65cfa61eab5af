"""The settings on which DDOME meets its rivals, and the cells of their tables.

Files are read from the folder that ``MOIETY_DATA`` names (``docs/data.md``).
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from moiety.core.streams import stream
from moiety.data.datasets import load_dataset
from moiety.data.homes import DATA_VARIABLE
from moiety.recipes import RECIPES
from moiety.recipes.fields import override_fields
from moiety.recipes.record import Federation

SEEDS = (0, 1, 2)


@dataclass(frozen=True)
class Setting:
    """A federation to compare on.

    Args:
        recipe: by name.
        changes: field -> value, nested.
        files: field -> the name of a file in the folder of data sets.
    """

    recipe: str
    changes: Mapping[str, Any] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)


CIFAR = {
    "data": "cifar10-small",
    "rounds": 60,
    "evaluate_every": 60,
    "net": "cnn",
    "cnn": {"channels": [8, 16], "hidden": 32},
    "common": {"target_accuracy": 0.5, "epochs": 30, "lr": 0.02},
    "local": {"lr": 0.05, "batch": 50},
    "checkpoint": {"every": 60},
}
WEAK = {**CIFAR, "common": {"target_accuracy": 0.35, "epochs": 30, "lr": 0.02}}
APART = {"rows": 250, "public": 0.15, "validation": 0.02}
HUNDRED = {"rounds": 100, "evaluate_every": 100, "checkpoint": {"every": 100}}
FASHION = {**HUNDRED, "population": {"classes": 4}, "local": {"batch": 50}}
WRITERS = {
    **HUNDRED,
    "data": "femnist",
    "population": {
        "scheme": "natural", "workers": 84, "unseen": 21, "anchors": 5, "rows": 0,
        "public": 0.15, "validation": 0.03,
    },
    "mlp": {"hidden": [32]},
    "common": {"target_accuracy": 0.7, "epochs": 60},
    "local": {"batch": 32},
}  # fmt: skip
NEWS = {
    **HUNDRED,
    "net": "bag",
    "bag": {"hidden": 16},
    "target": "label",
    "features": ["text"],
    "population": {
        "workers": 60, "unseen": 20, "classes": 4, "anchors": 5, "rows": 200, "public": 0.3,
        "validation": 0.05,
    },
    "common": {"target_accuracy": 0.6, "epochs": 40, "lr": 1.0},
    "local": {"lr": 1.0, "batch": 32},
}  # fmt: skip
NEWS_FILES = {"data": "text_20newsgroups_train.csv.gz", "test": "text_20newsgroups_test.csv.gz"}

DRAWN = Path(tempfile.gettempdir()) / "moiety-drawn"
"""Where rows that a benchmark draws are written."""

READERS = 36
"""Workers of drawn rows."""


def draw_inputs() -> None:
    """Write digits of workers who see them differently: turned by quarters, or in other colours."""
    data = load_dataset("digits")
    assert data.y is not None
    x = data.x.reshape(-1, 8, 8)
    order = torch.randperm(len(x), generator=stream(0, "drawn"))
    holder = torch.empty_like(order)
    holder[order] = torch.arange(len(x)) % READERS
    turned = torch.stack([one.rot90(int(w) % 4) for one, w in zip(x, holder, strict=True)])
    inverted = torch.where((holder % 2 == 1)[:, None, None], x.max() - x, x)
    DRAWN.mkdir(exist_ok=True)
    head = ",".join([*(f"p{place}" for place in range(64)), "label", "worker"])
    for name, seen in {"turned": turned, "inverted": inverted}.items():
        lines = [
            ",".join([*(f"{p:g}" for p in row.tolist()), f"d{int(y)}", f"w{int(w)}"])
            for row, y, w in zip(seen.flatten(1), data.y, holder, strict=True)
        ]
        (DRAWN / f"{name}.csv").write_text("\n".join([head, *lines]) + "\n")


SHORT = {"rounds": 100, "evaluate_every": 100, "checkpoint": {"every": 100}}
SEEN_APART = {
    **SHORT,
    "target": "label",
    "population": {
        "scheme": "natural", "workers": 30, "unseen": 6, "anchors": 4, "rows": 0, "public": 0.2,
        "validation": 0.1,
    },
    "ddome": {"experts": 4},
    "common": {"target_accuracy": 0.8},
}  # fmt: skip


NORMED = {**SEEN_APART, "net": "normed", "normed": {"hidden": [8]}}

SETTINGS: Mapping[str, Setting] = {
    "quickstart": Setting("quickstart", {"evaluate_every": 200, "checkpoint": {"every": 200}}),
    "fashion-4": Setting("ddome-fashion", FASHION),
    "femnist": Setting("ddome-fashion", WRITERS),
    "news-4": Setting("ddome-fashion", NEWS, NEWS_FILES),
    "turned-norms": Setting("quickstart", NORMED, {"data": str(DRAWN / "turned.csv")}),
    "cifar-2": Setting("ddome-fashion", {**CIFAR, "population": {**APART, "classes": 2}}),
    "cifar-4": Setting("ddome-fashion", {**CIFAR, "population": APART}),
    "weak-2": Setting("ddome-fashion", {**WEAK, "population": {**APART, "classes": 2}}),
    "weak-4": Setting("ddome-fashion", {**WEAK, "population": APART}),
}
"""Cheap ones first. Of a name the digit says how many labels a worker has; ``femnist`` is by
writer; in ``turned-norms`` inputs differ and networks have norms; ``weak`` is CIFAR-10 from a
common expert of lower accuracy."""


def map_digits(width: int, classes: int) -> Setting:
    """Choose a cell of the map: digits, networks of some hidden units, classes of a worker."""
    changes = {"mlp": {"hidden": [width]}, "population": {"classes": classes}}
    return Setting("quickstart", {**SHORT, **changes})


def map_inputs(width: int, name: str) -> Setting:
    """Choose digits that workers see differently, of all classes alike."""
    changes = {**SEEN_APART, "mlp": {"hidden": [width]}}
    return Setting("quickstart", changes, {"data": str(DRAWN / f"{name}.csv")})


MAPPED: Mapping[str, Setting] = {
    "digits-3-2": map_digits(3, 2),
    "digits-16-2": map_digits(16, 2),
    "digits-16-4": map_digits(16, 4),
    "turned-8": map_inputs(8, "turned"),
    "turned-32": map_inputs(32, "turned"),
    "inverted-8": map_inputs(8, "inverted"),
    "writers-32": Setting("ddome-fashion", WRITERS),
    "encoded-4": Setting(
        "quickstart",
        {
            **SHORT,
            "mlp": {"hidden": [32]},
            "population": {
                "workers": 40, "unseen": 10, "classes": 4, "anchors": 5, "rows": 100,
                "public": 0.3, "validation": 0.05,
            },
        },
        {"data": str(DRAWN / "posts.npz")},
    ),
}  # fmt: skip
"""Cells of the map: hidden units, then classes of a worker; workers whose inputs differ; and texts
as ``benchmarks.encode_texts`` writes them there; FEMNIST by writer."""

PLACES: Mapping[str, Setting] = {**SETTINGS, **MAPPED}

ADJUSTED = ("fedavg", "ddome")
PLAIN = ("common", "fedavg", "ddome", "fedprox", "ensemble", "fedmix")

BLIND = {"population": {"anchors": 0}}
"""Nobody is an anchor."""

VARIANTS: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "ddome-all": ("ddome", {"ddome": {"k": 5, "serve": "soft"}}),
    "ddome-all-common": ("ddome", {"ddome": {"k": 5, "serve": "soft", "from_common": True}}),
    "ddome-shared": ("ddome", {"ddome": {"serve": "soft", "shared": True}}),
    "ddome-shared-common": (
        "ddome",
        {"ddome": {"serve": "soft", "shared": True, "from_common": True}},
    ),
    "ddome-three": ("ddome", {"ddome": {"k": 3}}),
    "ddome-cover": ("ddome", {"ddome": {"k": 5, "cover": 0.9}}),
    "ddome-balanced": ("ddome", {"ddome": {"capacity": 4}}),
    "ddome-even": ("ddome", {"ddome": {"capacity": 2}}),
    "ddome-explore": ("ddome", {"ddome": {"explore": 0.2}}),
    "ddome-rows": ("ddome", {"ddome": {"serve_k": 5}}),
    "ddome-soft": ("ddome", {"ddome": {"serve": "soft"}}),
    "ddome-soft-all": ("ddome", {"ddome": {"serve": "soft", "serve_k": 5}}),
    "ddome-common": ("ddome", {"ddome": {"from_common": True}}),
    "ddome-gate-rows": ("ddome", {"ddome": {"gate_input": "rows"}}),
    "ddome-gate-rows-8": ("ddome", {"ddome": {"gate_input": "rows", "gate_hidden": 8}}),
    "ddome-gate-answers": ("ddome", {"ddome": {"gate_input": "answers"}}),
    "ddome-gate-raw": ("ddome", {"ddome": {"gate_input": "raw"}}),
    "ddome-late": ("ddome", {"ddome": {"opens": [50, 100]}}),
    "ddome-blind": ("ddome", BLIND),
    "ddome-blind-late": ("ddome", {**BLIND, "ddome": {"opens": [50, 100]}}),
    "ddome-blind-lend": ("ddome", {**BLIND, "ddome": {"lend_idle": True}}),
    "ddome-gate-rows-soft": (
        "ddome",
        {"ddome": {"gate_input": "rows", "serve": "soft", "serve_k": 5}},
    ),
    "ddome-gate-rows-all": (
        "ddome",
        {"ddome": {"gate_input": "rows", "k": 5, "serve": "soft"}},
    ),
    "fedrc": ("fedem", {"fedem": {"robust": True}}),
}
"""Name -> method and options."""


@dataclass(frozen=True)
class Cell:
    """One run.

    Args:
        setting: by name.
        method: by name, or a variant of one.
        prior: of local training.
        seed: of the run.
    """

    setting: str
    method: str
    prior: str
    seed: int

    @property
    def key(self) -> str:
        """Name it in the file of figures."""
        return f"{self.setting} {self.method} {self.prior} {self.seed}"

    @property
    def record(self) -> Federation:
        """The record that is run."""
        setting = PLACES[self.setting]
        folder = Path(os.environ.get(DATA_VARIABLE, ""))
        files = {name: str(folder / file) for name, file in setting.files.items()}
        record = override_fields(RECIPES[setting.recipe].record, {**setting.changes, **files})
        _, options = VARIANTS.get(self.method, (self.method, {}))
        return override_fields(record, {"local": {"prior": self.prior}, **options})


def list_cells(methods: Sequence[str] = PLAIN, seeds: Sequence[int] = SEEDS) -> list[Cell]:
    """List all cells, one seed after the other, so that what is there is whole."""
    return [
        Cell(setting, method, prior, seed)
        for seed in seeds
        for setting in SETTINGS
        for method in methods
        for prior in ("none", "adjust")
        if prior == "none" or VARIANTS.get(method, (method,))[0] in ADJUSTED
    ]
