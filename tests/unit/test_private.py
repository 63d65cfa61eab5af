"""Private means: how far one worker moves a sum, what noise is on it, and what rounds cost.

Letters: N workers.
"""

import math

import dp_accounting
import numpy as np
import pytest
import torch
from torch import Generator

from moiety.core.axes import Along, Part, take_piece
from moiety.core.state import Reply, Share
from moiety.core.store import LocalStore
from moiety.core.streams import stream
from moiety.merge.private import PrivateMean, count_holders
from moiety.ops.keyed_noise import draw_keyed_normal
from moiety.privacy.accountant import Accountant, count_most_asked
from moiety.rounds.cohort import FixedCohort, UniformCohort

AXES = {"w": ("h", None), "v": ("g", Along("h", 2)), "b": (None,)}
WHOLE = {"w": torch.zeros(4, 3), "v": torch.zeros(3, 8), "b": torch.zeros(2), "n": torch.zeros(2)}
TRAINED = frozenset("wvb")
KEY = bytes(range(32))
CLIP = 0.7


def draw_part(rng: Generator) -> Part:
    """Draw a part: of each axis some indices or all, of the names some or all."""
    cut = {}
    for axis, size in (("h", 4), ("g", 3)):
        kept = (torch.rand(size, generator=rng) < 0.6).nonzero()[:, 0]
        if len(kept) and torch.rand((), generator=rng) < 0.8:
            cut[axis] = kept
    some = torch.rand((), generator=rng) < 0.3
    return Part(cut, ("w", "b", "n")) if some else Part(cut)


def draw_reply(worker: int, part: Part, scale: float, rng: Generator) -> Reply:
    """Draw a reply, of changes near a scale."""
    sent = take_piece(WHOLE, AXES, part)
    piece = {n: t + scale * torch.randn(t.shape, generator=rng) for n, t in sent.items()}
    return Reply(worker, Share(part), piece)


def merge(replies, parts, noise=0.0, key=KEY, start=WHOLE) -> dict[str, torch.Tensor]:
    shapes = {name: t.to("meta") for name, t in WHOLE.items()}  # as a run has them
    made = PrivateMean(shapes, AXES, TRAINED, CLIP, noise, tuple(parts), key=key)
    under_way = made.begin(LocalStore(start, AXES))
    for reply in replies:
        under_way.add(reply)
    return dict(under_way.close().params)


def measure_distance(one, other, weights) -> float:
    """Give the norm of a difference, each coordinate times a weight; tensors left out are 0."""
    squares = [
        (((one[n] - other[n]).double() * weights[n]) ** 2).sum() for n in weights if n in one
    ]
    return float(torch.stack(squares).sum().sqrt())


@pytest.mark.parametrize("seed", range(6))
def test_one_worker_moves_the_sum_by_the_clip_at_most_whatever_overlaps(seed):
    """Over random parts: with a worker, without its reply, and with another reply of it.

    The sum is the merged change times the holders; the mean moves by the clip over the fewest
    holders of what the worker holds. Large changes reach the bound.
    """
    rng = stream(seed, "worlds")
    parts = [draw_part(rng) for _ in range(5)]
    scale = (0.05, 3.0)[seed % 2]
    replies = [draw_reply(w, part, scale, rng) for w, part in enumerate(parts)]
    holders = count_holders(WHOLE, AXES, parts, TRAINED)
    here = merge(replies, parts)
    most = 0.0
    for worker, part in enumerate(parts):
        others = replies[:worker] + replies[worker + 1 :]
        without = merge(others, parts)
        other = merge([*others, draw_reply(worker, part, 50.0, rng)], parts)
        assert measure_distance(here, without, holders) <= CLIP * (1 + 1e-5)
        assert measure_distance(here, other, holders) <= 2 * CLIP * (1 + 1e-5)
        counts = {n: c.expand(WHOLE[n].shape) for n, c in holders.items()}
        own = [t.min() for t in take_piece(counts, AXES, part).values()]
        alone = {name: torch.ones(()) for name in TRAINED}
        assert measure_distance(here, without, alone) <= CLIP / float(min(own)) * (1 + 1e-5)
        assert torch.equal(here["n"], WHOLE["n"])
        most = max(most, measure_distance(here, without, holders))
    assert most == pytest.approx(CLIP, rel=1e-5) if scale > 1 else most < CLIP


def test_holders_are_those_who_were_asked_not_those_who_answered():
    parts = [Part({"h": torch.tensor([0, 1])}), Part({"h": torch.tensor([1, 2])}), Part()]
    reply = Reply(
        1, Share(parts[1]), {**take_piece(WHOLE, AXES, parts[1]), "b": torch.full((2,), 0.3)}
    )
    found = merge([reply], parts)
    assert found["b"].tolist() == pytest.approx([0.1, 0.1])
    assert count_holders(WHOLE, AXES, parts, TRAINED)["w"][:, 0].tolist() == [2, 3, 2, 1]


def test_noise_has_the_variance_that_is_said_on_what_was_asked_for_and_nowhere_else():
    size, noise = 20_000, 1.3
    whole = {"w": torch.full((size, 2), 0.5), "v": torch.zeros(2)}
    part = Part({"h": torch.arange(size // 2)}, ("w",))
    made = PrivateMean(
        whole, {"w": ("h", None)}, frozenset("wv"), CLIP, noise, (part,) * 4, key=KEY
    )
    found = made.begin(LocalStore(whole, {"w": ("h", None)})).close()
    drawn = (found.params["w"] - 0.5)[: size // 2].double() * 4 / (noise * CLIP)
    assert abs(float(drawn.mean())) < 4 / math.sqrt(size)
    assert float(drawn.var()) == pytest.approx(1, abs=4 * math.sqrt(2 / size))
    assert float((drawn**4).mean()) == pytest.approx(3, abs=4 * math.sqrt(96 / size))
    assert torch.equal(found.params["w"][size // 2 :], whole["w"][size // 2 :])
    assert torch.equal(found.params["v"], whole["v"])
    assert found.held["w"][:, 0].tolist() == [True] * (size // 2) + [False] * (size // 2)


def test_noise_repeats_with_the_same_replies_alone():
    """A round that is played again with other replies must not show their difference."""
    rng, parts = stream(0, "again"), [Part(), Part()]
    replies = [draw_reply(w, Part(), 0.01, rng) for w in range(2)]
    first = merge(replies, parts, noise=1.0)
    assert all(torch.equal(first[n], t) for n, t in merge(replies, parts, noise=1.0).items())
    moved = {n: t + 1e-3 for n, t in WHOLE.items()}
    others = (
        merge(replies[:1], parts, noise=1.0),
        merge(replies, parts, noise=1.0, key=KEY[::-1]),
        merge(replies, parts, noise=1.0, start=moved),
    )
    for other in others:
        assert float((first["v"] - other["v"]).std()) > 0.3 * CLIP


def test_keyed_numbers_are_normal_and_tell_nothing_of_each_other():
    one, other = (draw_keyed_normal(KEY, ("n", i), (9_999,)) for i in range(2))
    share = [float((one.abs() < z).double().mean()) for z in (0.6745, 1.9600)]
    assert share == pytest.approx([0.5, 0.95], abs=0.02)
    assert abs(float((one * other).mean())) < 0.04
    assert abs(float((one[:4_999] * one[5_000:]).mean())) < 0.06  # of both halves of a pair


def compute_delta(noise: float, epsilon: float, chance: float = 1.0) -> float:
    """Integrate the hockey stick between noise around 0 and a mixture of noise around 0 and 1."""
    x = np.linspace(-12 * noise, 1 + 12 * noise, 400_001)
    near, far = (np.exp(-((x - at) ** 2) / (2 * noise**2)) for at in (0, 1))
    mixed, scale = (1 - chance) * near + chance * far, noise * math.sqrt(2 * math.pi)
    gaps = (mixed - math.exp(epsilon) * near, near - math.exp(epsilon) * mixed)
    return max(float(np.trapezoid(gap.clip(0), x)) / scale for gap in gaps)


@pytest.mark.parametrize(("noise", "times"), [(1.1, 1), (4.0, 7), (20.0, 50)])
def test_epsilon_of_known_cohorts_is_that_of_one_gaussian(noise, times):
    """Equal to the library's accountant by loss distributions, and to an integral of our own."""
    found = Accountant(1e-5, tuple(range(1, times + 1))).spend(noise, times)
    event = dp_accounting.GaussianDpEvent(noise)
    relation = dp_accounting.NeighboringRelation.REPLACE_SPECIAL
    account = dp_accounting.pld.PLDAccountant(relation, 1e-3).compose(event, times)
    assert found == pytest.approx(account.get_epsilon(1e-5), rel=2e-3)
    assert compute_delta(noise / math.sqrt(times), found) == pytest.approx(1e-5, rel=1e-4)


def test_epsilon_of_secret_cohorts_bounds_what_a_round_tells():
    account = Accountant(1e-4, chance=0.25)
    for noise in (0.9, 2.0):
        found = account.spend(noise, 1)
        assert compute_delta(noise, found, chance=0.25) <= 1e-4
        assert compute_delta(noise, found - 2e-3, chance=0.25) > 1e-4
        # The divergence of order 2 is log(1 + q^2 (exp(1/z^2) - 1)), and gives a looser bound
        # (Canonne, Kamath and Steinke, arXiv:2004.00010, proposition 12).
        order = math.log1p(0.25**2 * math.expm1(1 / noise**2))
        most = 50 * order + math.log1p(-1 / 2) - math.log(1e-4 * 2)
        assert 0.4 * most < account.spend(noise, 50) <= most
    assert account.spend(2.0, 0) == 0.0
    assert Accountant(1e-5, (1,)).spend(1e6, 1) == 0.0  # and nothing warns


def test_noise_and_rounds_are_found_for_a_budget():
    account = Accountant(1e-5, (1, 2, 2, 3))
    noise = account.solve_noise(2.0, 4)
    assert account.spend(noise, 4) <= 2.0 < account.spend(noise - 2e-4, 4)
    assert noise == pytest.approx(
        math.sqrt(3) * dp_accounting.get_sigma_gaussian(2.0, 1e-5), abs=2e-4
    )
    most = account.spend(noise, 3)
    assert account.count_rounds(noise, most, 4) == 3
    assert account.count_rounds(noise, most - 1e-9, 4) == 1
    assert account.count_rounds(noise, 1e-3, 4) == 0


def test_the_worker_that_is_asked_most_counts():
    assert count_most_asked(FixedCohort((0, 3)), 0, 3) == (1, 2, 3)
    draw = UniformCohort(5, 2)
    found = count_most_asked(draw, 7, 6)
    asked = [[w in draw(r, 7) for w in range(5)] for r in range(6)]
    assert found == tuple(np.cumsum(asked, axis=0).max(1).tolist())
