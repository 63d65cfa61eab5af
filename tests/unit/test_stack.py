"""Stacks of factors: products are averaged, whatever the ranks."""

import math
from dataclasses import replace

import pytest
import torch

from moiety.core.axes import Part, take_piece
from moiety.core.fold import Precision
from moiety.core.state import Reply, Share
from moiety.core.store import LocalStore
from moiety.core.streams import stream
from moiety.merge.stack import Padded, Stack
from moiety.methods.demo import make_two_class_workers
from moiety.methods.lora import lora
from moiety.methods.task import LocalTraining, Task
from moiety.models.low_rank import low_rank
from moiety.models.mlp import mlp
from moiety.models.module import from_module
from moiety.ops.factors import refactor_product
from moiety.recipes.quickstart import quickstart
from moiety.recipes.schedule import check_late_replies
from moiety.rounds.schedule import Schedule
from moiety.serve.config import rebuild_model, restore_constants

AXES = {"b": (None, "rank"), "a": ("rank", None), "c": (None,)}
STACK = Stack((("b", "a"),), AXES, "rank")


def draw(rank, rng, outs=12, ins=10):
    """Draw factors, and a parameter that is none."""
    shapes = {"b": (outs, rank), "a": (rank, ins), "c": (2,)}
    return {name: torch.randn(*shape, generator=rng) for name, shape in shapes.items()}


def answer(worker, rank, weight, rng, **size):
    part = Part({"rank": torch.arange(rank)})
    return Reply(worker, Share(part), draw(rank, rng, **size), precision=Precision(weight))


def merge(how, whole, replies):
    under_way = how.begin(LocalStore(whole, AXES))
    for reply in replies:
        under_way.add(reply)
    return under_way.close()


def multiply(params):
    return params["b"].double() @ params["a"].double()


@pytest.mark.parametrize("fresh", [True, False], ids=["first round", "later"])
def test_ranks_4_8_16_are_merged_exactly(fresh):
    """The merged product is the weighed sum of products; what a worker did not hold stays."""
    rng = stream(0, "stack")
    whole = draw(16, rng)
    if fresh:
        whole["b"] = torch.zeros_like(whole["b"])
    weights = (1.0, 2.0, 5.0)
    replies = [answer(w, r, weights[w], rng) for w, r in enumerate((4, 8, 16))]
    merged = merge(STACK, whole, replies)
    wanted = torch.zeros(12, 10, dtype=torch.double)
    for reply in replies:
        held = len(reply.piece["a"])
        rest = whole["b"][:, held:].double() @ whole["a"][held:].double()
        wanted += reply.precision.scalar / 8 * (multiply(reply.piece) + rest)
    size = wanted.norm()
    assert (multiply(merged.params) - wanted).norm() <= 1e-6 * size
    padded = merge(Padded(AXES), whole, replies).params
    assert (multiply(padded) - wanted).norm() > 0.1 * size
    mean = sum(one.precision.scalar / 8 * one.piece["c"] for one in replies)
    torch.testing.assert_close(merged.params["c"], mean)
    assert all(mask.all() for mask in merged.held.values())


def test_the_order_of_replies_changes_no_bit_and_nobody_changes_nothing():
    rng = stream(1, "stack")
    whole = draw(5, rng)
    replies = [answer(w, r, 1.0 + w, rng) for w, r in enumerate((1, 5, 3))]
    first = merge(STACK, whole, replies).params
    for order in ((2, 0, 1), (1, 2, 0)):
        again = merge(STACK, whole, [replies[place] for place in order]).params
        assert all(torch.equal(again[name], first[name]) for name in "ab")
    still = merge(STACK, whole, [])
    assert all(torch.equal(still.params[name], whole[name]) for name in whole)
    assert not still.held


@pytest.mark.parametrize("rank", [1, 2, 4, 9])
def test_the_first_columns_are_the_nearest_of_their_rank(rank):
    """Beside a singular value decomposition of the product; what is left over can learn."""
    rng = stream(2, "factors")
    left, right = torch.randn(7, 4, generator=rng), torch.randn(4, 6, generator=rng)
    spare = torch.randn(rank, 6, generator=rng)
    b, a = refactor_product(left.double(), right.double(), spare)
    u, weight, v = torch.linalg.svd(left.double() @ right.double())
    for count in range(1, rank + 1):
        some = min(count, 4)
        nearest = u[:, :some] * weight[:some] @ v[:some]
        torch.testing.assert_close(b[:, :count] @ a[:count], nearest.float(), rtol=0, atol=1e-5)
    assert torch.equal(a[4:], spare[4:])
    assert not b[:, 4:].any()
    assert (a.norm(dim=1)[:4] >= 3**-0.5 - 1e-6).all()
    none = refactor_product(torch.zeros(7, 3), torch.ones(3, 6), spare)
    assert not none[0].any()
    assert torch.equal(none[1], spare)


def test_zeros_are_averaged_in_by_hand():
    """Two workers, the second with one column: its share of the other column is 0."""
    whole = {"b": torch.zeros(1, 2), "a": torch.zeros(2, 1), "c": torch.zeros(1)}
    full = Reply(0, Share(), {"b": torch.tensor([[2.0, 4.0]]), "a": torch.tensor([[6.0], [8.0]])})
    thin = Part({"rank": torch.tensor([0])})
    one = Reply(1, Share(thin), {"b": torch.tensor([[4.0]]), "a": torch.tensor([[0.0]])})
    merged = merge(Padded(AXES), whole, [full, one]).params
    assert merged["b"].tolist() == [[3.0, 2.0]]
    assert merged["a"].tolist() == [[3.0], [4.0]]


def test_a_network_starts_as_its_base_and_is_built_again():
    """Factors add nothing at first; a piece of them runs; what was saved gives the same answers."""
    net = mlp((6, 5, 3), stream(0, "net"))
    base = net.redraw(stream(1, "base"))
    model = low_rank(net, base, stream(2, "lora"), rank=4, scale=0.5, targets=("layer2.w",))
    batch = {"x": torch.randn(7, 6, generator=stream(0, "x"))}
    bare = net.logits(base, batch, {})
    assert torch.equal(model.logits(model.params, batch, {}), bare)
    params = draw_like(model.params)
    whole = model.logits(params, batch, {})
    hand = {
        **base,
        "layer2.w": base["layer2.w"] + 0.5 * params["layer2.w.b"] @ params["layer2.w.a"],
    }
    torch.testing.assert_close(whole, net.logits(hand, batch, {}))
    thin = take_piece(params, model.axes, Part({"rank": torch.tensor([0, 2])}))
    assert model.logits(thin, batch, {}).shape == whole.shape
    again = restore_constants(rebuild_model(model.config()), model.constants)
    assert torch.equal(again.logits(params, batch, {}), whole)


def draw_like(params):
    rng = stream(3, "values")
    return {name: torch.randn(t.shape, generator=rng) for name, t in params.items()}


@pytest.mark.parametrize(
    ("told", "said"),
    [
        ({"merge": "mean"}, "lora.merge='mean'"),
        ({"ranks": ()}, "lora.ranks"),
        ({"ranks": (4, 0)}, "at least 1"),
        ({"ranks": (4, 8), "rank": 6}, "no smaller than any of them"),
        ({"scale": 0.0}, "lora.scale=0.0"),
        ({"scale": math.inf}, "above 0"),
        ({"targets": ("layer9.*",)}, "means no matrix"),
        ({"targets": ("layer1.b",)}, "means no matrix"),
    ],
)
def test_choices_that_cannot_be_are_refused(told, said):
    task, _ = make_two_class_workers(stream(0, "task"))
    with pytest.raises(ValueError, match=said):
        lora(task, **told)


def test_moments_of_factors_that_are_found_anew_are_refused():
    net = mlp((6, 5, 3), stream(0, "net"))
    local = LocalTraining("adam", optimizer_state="send")
    with pytest.raises(ValueError, match="optimizer_state='send' keeps moments"):
        lora(Task(net, local))
    assert lora(Task(net, local), merge="holders").name == "lora"


def test_statistics_of_norms_are_refused():
    net = torch.nn.Sequential(torch.nn.Linear(6, 5), torch.nn.BatchNorm1d(5))
    with pytest.raises(ValueError, match="without batch norm"):
        lora(Task(from_module(net)))


def test_late_factors_are_not_drawn_back():
    """Beside factors found anew they mean nothing; the mean over holders takes them."""
    record = replace(quickstart(), schedule=Schedule("buffered", size=2))
    method = lora(Task(mlp((6, 5, 3), stream(0, "net"))))
    with pytest.raises(ValueError, match=r"schedule.kind='buffered' draws late replies back"):
        check_late_replies(record, method)
    check_late_replies(quickstart(), method)
    check_late_replies(record, lora(Task(mlp((6, 5, 3), stream(0, "net"))), merge="holders"))
