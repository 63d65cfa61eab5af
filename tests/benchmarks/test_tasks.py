"""The benchmark of tasks on figures and rows made by hand; no data files, no timings."""

import pytest
import torch
import torch.nn.functional as F

from benchmarks.gates import Book
from benchmarks.tasks import (
    ALONE,
    COMMON,
    METRICS,
    OWNER_SCALES,
    PLAIN,
    SIMPLE,
    VARIANTS,
    choose_scale,
    hold_out,
    judge,
    judge_all,
    list_lines,
    list_takes,
    name_figure,
    play_line,
)
from benchmarks.tasks_page import fill, write_gates, write_ranking, write_table
from benchmarks.tasks_parts.nets import AXES, Following, Units, draw
from benchmarks.tasks_parts.runs import Figures, play_variant
from benchmarks.tasks_parts.simple import (
    fit_following,
    fit_linear_classes,
    fit_linear_labels,
    fit_linear_numbers,
)
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
        F.cross_entropy, AXES, lr=0.3, simple={}, rounds=20, owner_rounds=20,
    )  # fmt: skip


WHOLE = 4 * (6 * 8 + 8 + 8 * 3 + 3)


@pytest.mark.parametrize("variant", VARIANTS[:4], ids=lambda one: one.name)
def test_every_line_learns_and_counts_its_bytes(variant):
    found = play_variant(tiny(), variant, 0, 3.0)
    assert found["accuracy"] > 0.55
    assert 0.5 < found["own"] < 1
    assert found["workers"] == (variant.iid or 5)
    if variant.method in ("fedavg", "fedprox"):
        momentum = bool(variant.iid)  # which travels with the model
        assert found["bytes"] == 2 * WHOLE * (1 + momentum)


@pytest.mark.parametrize(("line", "least"), [(PLAIN, 0.8), (ALONE, 0.7), (COMMON, 0.4)])
def test_yardsticks_of_the_same_network_learn(line, least):
    assert play_line(tiny(), line, 0, 3.0)["accuracy"] > least


def test_experts_and_gate_are_what_travels():
    """Two experts and the names of two, but for four anchors, who hold and are told of one."""
    found = play_variant(tiny(), VARIANTS[4], 0, 3.0)
    gate = 4 * (8 * 16 + 16 + 16 * 4 + 4)
    anchors, others = 4, 1
    scores = others * (gate + 2 * 2 * 8)
    passed = 2 * anchors * (gate + WHOLE) + others * (2 * gate + 2 * 2 * WHOLE)
    assert found["bytes"] == pytest.approx(passed / 5, abs=scores / 5)
    assert found["accuracy"] > 0.5


def test_simpler_models_answer_as_the_objective_does():
    rng = torch.Generator().manual_seed(0)
    x = torch.randn(60, 3, generator=rng)
    side = (x[:, 0] > 0).long()
    numbers = fit_linear_numbers({"x": x, "y": 2 * x[:, :1] + 1})(x)
    torch.testing.assert_close(numbers, 2 * x[:, :1] + 1, atol=0.2, rtol=0)
    log_BC = fit_linear_classes({"x": x, "y": 2 * side}, 3)(x)
    assert (log_BC.argmax(-1) == 2 * side).float().mean() > 0.9
    torch.testing.assert_close(log_BC.exp().sum(-1), torch.ones(60))
    log_BL = fit_linear_labels({"x": x, "y": torch.stack([side, 1 - side], -1).float()})(x)
    assert ((log_BL.exp() > 0.5)[:, 0] == (side == 1)).float().mean() > 0.9


def test_counts_of_tokens_by_hand():
    """After 0 came 1 twice and 0 once; after the pair 0 0 came 1 once."""
    rows = {"x": torch.tensor([[0, 0, 1, 0]]), "y": torch.tensor([[0, 1, 0, 1]])}
    p = fit_following(rows, 2)(torch.tensor([[0, 0]])).exp()[0]
    level = torch.tensor([3 / 6, 3 / 6])
    one = (torch.tensor([1.0, 2.0]) + 2 * level) / 5
    two = (torch.tensor([0.0, 1.0]) + one) / 2
    torch.testing.assert_close(p, torch.stack([one, two]))


def test_a_rate_is_chosen_on_rows_that_are_held_out():
    world = hold_out(tiny())
    assert len(world.train["y"]) == 192
    assert world.test["y"].tolist() == tiny().train["y"][4::5].tolist()
    for values, best in (((0.2, 0.7), 1), ((0.7, 0.7), 0), ((0.1, None), 0), ((None, 0.1), 1)):
        figures = dict(zip(OWNER_SCALES, values, strict=True))
        book = Book(None, {
            f"choice of a rate: femnist, FedAvg, x {scale:g}": one for scale, one in figures.items()
        })  # fmt: skip
        assert choose_scale(book, "femnist", "FedAvg") == OWNER_SCALES[best]


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
    simple = sum(map(len, SIMPLE.values()))
    assert len(list_takes(Book(), quick=False)) == 3 * 5 * 8 - 3 * 5 + 3 * 5 + simple
    assert len(list_takes(Book(), quick=True)) == 5 * 8 + simple
    one = {"accuracy": 0.5, "own": 0.4, "bytes": 2000.0, "workers": 4, "scale": 3.0}
    plain = {"accuracy": 0.5, "own": 0.6, "scale": 1.0}
    book = Book(None, {
        name_figure("femnist", PLAIN, 0): plain,
        name_figure("femnist", VARIANTS[0].name, 0): one,
    })  # fmt: skip
    gates = judge_all(book, quick=False)
    assert [gate.ok for gate in gates] == [True, None, None]
    found: dict[str, dict[str, list[Figures]]] = {
        name: {line: [] for line in list_lines(name)} for name in METRICS
    }
    found["femnist"] |= {PLAIN: [plain], VARIANTS[0].name: [one]}
    table = write_table(found)
    assert table.count("not run") == 5 * 8 + simple - 2
    assert "| femnist | FedAvg, rows alike | accuracy | 0.5 | 0.4 | 1 | 0.3 | 2.0 |" in table
    assert write_gates(found).count("yes") == 1
    assert "| femnist | plain loop 0.6; FedAvg, rows alike 0.4 |" in write_ranking(found)
    assert fill("a <!-- m --> old <!-- end m --> z", "m", "new") == (
        "a <!-- m -->\nnew\n<!-- end m --> z"
    )
