"""The benchmark of tasks on figures and rows made by hand; no data files, no timings."""

import pytest
import torch
import torch.nn.functional as F

from benchmarks.gates import Book
from benchmarks.tasks import METRICS, PLAIN, VARIANTS, judge, judge_all, list_takes, name_figure
from benchmarks.tasks_page import fill, write_gates, write_table
from benchmarks.tasks_parts.nets import AXES, Following, Units, draw
from benchmarks.tasks_parts.runs import Figures, play_plain, play_variant
from benchmarks.tasks_parts.worlds import World
from moiety.tasks.classes import Classes


def tiny():
    rng = torch.Generator().manual_seed(0)
    x = torch.randn(240, 6, generator=rng)
    rows = {"x": x, "y": (x[:, 0] > 0).long() + (x[:, 1] > 0.5).long()}
    owners = torch.arange(240) % 5
    test = {name: column[:80] for name, column in rows.items()}
    return World(
        Classes(("a", "b", "c")), rows, test, owners, owners[:80], lambda: Units(6, 8, 3),
        F.cross_entropy, AXES, lr=0.3, rounds=4,
    )  # fmt: skip


WHOLE = 4 * (6 * 8 + 8 + 8 * 3 + 3)


@pytest.mark.parametrize("variant", VARIANTS[:4], ids=lambda one: one.name)
def test_every_line_learns_and_counts_its_bytes(variant):
    found = play_variant(tiny(), variant, 20, 0)
    assert found["accuracy"] > 0.55
    assert found["workers"] == (variant.iid or 5)
    if variant.method in ("fedavg", "fedprox"):
        assert found["bytes"] == 2 * WHOLE
    assert play_plain(tiny(), 20, 0)["accuracy"] > 0.7


def test_experts_and_gate_are_what_travels():
    """Down and up the gate and two experts, and the names of the two."""
    found = play_variant(tiny(), VARIANTS[4], 2, 0)
    gate = 4 * (8 * 16 + 16 + 16 * 4 + 4)
    assert found["bytes"] == 2 * gate + 2 * 2 * WHOLE + 2 * 4


def test_half_of_the_units_answer_on_the_scale_of_the_whole():
    net = draw(Units(6, 8, 3), 0)
    x = torch.randn(5, 6, generator=torch.Generator().manual_seed(1))
    params = dict(net.named_parameters())
    halves = []
    for kept in (torch.arange(0, 8, 2), torch.arange(1, 8, 2)):
        piece = {
            "hidden.weight": params["hidden.weight"][kept],
            "hidden.bias": params["hidden.bias"][kept],
            "out.weight": params["out.weight"][:, kept],
            "out.bias": params["out.bias"],
        }
        halves.append(torch.func.functional_call(net, piece, x))
    torch.testing.assert_close((halves[0] + halves[1]) / 2, net(x))


def test_a_position_sees_nothing_that_follows():
    net = draw(Following(7, 8), 0)
    x = torch.randint(7, (1, 12), generator=torch.Generator().manual_seed(0))
    other = x.clone()
    other[0, 8:] = (other[0, 8:] + 1) % 7
    same = net(x) == net(other)
    assert same[0, :8].all()
    assert not same[0, 8:].all(1).any()


def test_the_gate_looks_at_the_direction_of_a_metric():
    higher = {PLAIN: [{"m": 0.80}], VARIANTS[0].name: [{"m": 0.793}]}
    assert judge("d", "m", higher, higher=True).ok
    assert judge("d", "m", {**higher, PLAIN: [{"m": 0.81}]}, higher=True).ok is False
    lower = {PLAIN: [{"m": 10.0}], VARIANTS[0].name: [{"m": 10.2}]}
    assert judge("d", "m", lower, higher=False).ok is False
    assert judge("d", "m", lower, higher=True).ok


def test_what_is_there_is_judged_and_written():
    takes = list_takes(quick=False)
    assert len(takes) == 3 * 5 * 6
    assert len(list_takes(quick=True)) == 5 * 6
    figures = {"accuracy": 0.5, "bytes": 2000.0, "workers": 4, "seconds": 1.0}
    book = Book(None, {
        name_figure("femnist", PLAIN, 0): {"accuracy": 0.5, "bytes": 0},
        name_figure("femnist", VARIANTS[0].name, 0): figures,
    })  # fmt: skip
    gates = judge_all(book, quick=False)
    assert [gate.ok for gate in gates] == [True, None, None]
    lines = (PLAIN, *(one.name for one in VARIANTS))
    nothing: dict[str, list[Figures]] = {line: [] for line in lines}
    found: dict[str, dict[str, list[Figures]]] = dict.fromkeys(METRICS, nothing)
    found["femnist"] = {**nothing, PLAIN: [figures], VARIANTS[0].name: [figures]}
    table = write_table(found)
    assert table.count("not run") == 5 * 6 - 2
    assert "| femnist | FedAvg, rows alike | accuracy | 0.5 | 1 | 4 | 2.0 |" in table
    assert write_gates(found).count("yes") == 1
    assert fill("a <!-- m --> old <!-- end m --> z", "m", "new") == (
        "a <!-- m -->\nnew\n<!-- end m --> z"
    )
