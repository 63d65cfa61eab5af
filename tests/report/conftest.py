"""Ledgers built by hand: ``small`` with numbers worked out on paper, ``rich`` for the eye."""

import math
import random
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from moiety.core.ledger import (
    End,
    Evaluation,
    Group,
    Ledger,
    Round,
    Start,
    Work,
    encode_entry,
    read_ledger,
)


def start(method="ddome", seed=0, **fields):
    usual = {
        "recipe": "quickstart",
        "method": method,
        "seed": seed,
        "engine": "serial",
        "device": "cpu",
        "rounds": 2,
        "command": "moiety run quickstart --seeds 2",
        "time": "2026-01-02T03:04:05Z",
        "config": {"method": method, "seed": seed, "local": {"lr": 0.1, "batch": 20}},
        "environment": {"python": "3.11.9", "torch": "2.9.0"},
        "classes": ["0", "1"],
        "num_seen": 2,
        "num_unseen": 1,
        "seen": [[3, 0], [0, 4]],
        "unseen": [[2, 2]],
        "num_parameters": 1234,
        "constant_bytes": 0,
        "note": "",
    }
    return Start(**{**usual, **fields})


def work(worker, down=100, up=50, loss=1.0):
    return Work(
        worker=worker,
        role="",
        part={},
        down_bytes=down,
        up_bytes=up,
        steps=1,
        rows=3,
        loss_first=loss,
        loss_last=loss,
        loss_mean=loss,
        model_version=0,
    )


def round_(number, workers, loss=1.0, gate_load=(), seconds=0.5):
    return Round(
        round=number,
        stage=0,
        seconds=seconds,
        down_bytes=sum(one.down_bytes for one in workers),
        up_bytes=sum(one.up_bytes for one in workers),
        loss_mean=loss,
        workers=workers,
        gate_load=gate_load,
    )


def evaluation(number, seen, unseen, routes=()):
    groups = {
        "seen": Group(range_(len(seen)), [3] * len(seen), {"accuracy": seen}),
        "unseen": Group(range_(len(unseen), len(seen)), [4] * len(unseen), {"accuracy": unseen}),
    }
    return Evaluation(round=number, seconds=0.1, groups=groups, routes=routes)


def range_(count, first=0):
    return list(range(first, first + count))


def write_run(folder, entries):
    folder.mkdir(parents=True)
    path = folder / "ledger.jsonl"
    path.write_text("".join(encode_entry(entry) + "\n" for entry in entries), encoding="utf8")
    return folder


def small_entries(method, seed, gain):
    return [
        start(method, seed, constant_bytes=1000, note="The experts are small on purpose."),
        evaluation(0, [0.1, 0.2], [0.1]),
        round_(1, [work(0, 100, 50), work(1, 300, 50)], 2.0, [1.0, 0.5]),
        round_(2, [work(0, 200, 50)], 1.5, [0.0, 1.0]),
        evaluation(2, [0.5 + gain, 0.7 + gain], [0.4 + gain], [[3, 0], [1, 4]]),
        End(round=2, seconds=7.0 + seed, status="finished"),
    ]


def reference_entries(seed):
    return [
        start("common", seed, rounds=0),
        evaluation(0, [0.5, 0.3], [0.45]),
        End(round=0, seconds=1.0, status="finished"),
    ]


@pytest.fixture
def small(tmp_path):
    """Two seeds of ddome, two of fedavg, and a reference, in one folder."""
    folder = tmp_path / "group"
    for seed, gain in ((0, 0.0), (1, 0.2)):
        write_run(folder / f"a-ddome-{seed}", small_entries("ddome", seed, 0.2 + gain))
        write_run(folder / f"b-fedavg-{seed}", small_entries("fedavg", seed, gain))
    write_run(folder / "c-common-0", reference_entries(0))
    return folder


@pytest.fixture
def small_ledgers(small):
    return [read_ledger(path) for path in sorted(small.rglob("ledger.jsonl"))]


@pytest.fixture
def make():
    """The builders, for tests that need other ledgers."""

    return SimpleNamespace(
        start=start, work=work, round=round_, evaluation=evaluation, run=write_run,
        small=small_entries, ledger=ledger, replace=replace,
    )  # fmt: skip


def ledger(entries):
    rounds = [entry for entry in entries if isinstance(entry, Round)]
    evaluations = [entry for entry in entries if isinstance(entry, Evaluation)]
    end = next((entry for entry in entries if isinstance(entry, End)), None)
    path = Path("somewhere/run/ledger.jsonl")
    return Ledger(entries[0], rounds, evaluations, end, path)


@pytest.fixture
def rich(tmp_path):
    """Four methods, three seeds, 24 + 6 workers, 5 experts, 10 classes, 60 rounds."""
    return build_rich(tmp_path / "rich")


TOP = {"ddome": 0.86, "fedavg": 0.74, "fedprox": 0.75, "common": 0.62}


def build_rich(folder):
    for seed in range(3):
        draw = random.Random(seed)
        seen, unseen = (
            [[draw.choice([0, 0, 0, 0, draw.randint(8, 40)]) for _ in range(10)] for _ in range(n)]
            for n in (24, 6)
        )
        for row in seen + unseen:
            row[draw.randrange(10)] += draw.randint(10, 40)
        for method in TOP:
            entries = rich_entries(method, seed, seen, unseen)
            write_run(folder / f"{method}-{seed}", entries)
    return folder


def rich_entries(method, seed, seen, unseen):
    draw = random.Random(f"{method}{seed}")
    rounds = 0 if method == "common" else 60
    first = start(
        method,
        seed,
        rounds=rounds,
        classes=[str(label) for label in range(10)],
        seen=seen,
        unseen=unseen,
        num_seen=24,
        num_unseen=6,
        num_parameters=24_350,
        constant_bytes=8200,
        note="The experts are small on purpose; where larger ones win or lose is mapped elsewhere.",
        command="moiety run quickstart --seeds 3",
        config={
            "method": {"name": method, "experts": 5 if method == "ddome" else 1, "top": 2},
            "seed": seed,
            "local": {"lr": 0.05, "batch": 16, "epochs": 2, "optimizer": "sgd"},
            "per_round": 8,
            "engine": "auto",
        },
    )

    def judge(number):
        reached = TOP[method] if not rounds else TOP[method] - 0.6 * math.exp(-number / 12)
        near = [min(1.0, max(0.0, reached + 0.04 + draw.gauss(0, 0.05))) for _ in range(24)]
        far = [min(1.0, max(0.0, reached - 0.03 + draw.gauss(0, 0.07))) for _ in range(6)]
        sent = [
            [
                draw.randint(40, 90) if (c + seed) % 5 == e else draw.randint(0, 14)
                for c in range(10)
            ]
            for e in range(5)
        ]
        return evaluation(number, near, far, sent if method == "ddome" else ())

    entries = [first, judge(0)]
    for number in range(1, rounds + 1):
        who = draw.sample(range(24), 8)
        size = 61_440 if method == "ddome" else 97_400
        workers = [work(one, size, size) for one in who]
        load = [draw.randint(1, 6) / 8 for _ in range(5)] if method == "ddome" else ()
        loss = 0.3 + 2 * math.exp(-number / 10) + draw.gauss(0, 0.02)
        entries.append(round_(number, workers, loss, load))
        if number % 5 == 0:
            entries.append(judge(number))
    return [*entries, End(round=rounds, seconds=12.0 + seed + rounds / 10, status="finished")]
