"""Climbs: leaps between EM's steps, and which of several climbs counts."""

import numpy as np
import pytest

from moiety.mixtures import climb
from moiety.mixtures.climb import run_em
from moiety.mixtures.em import Prior, sum_rows
from moiety.mixtures.em_starts import cut_slabs, label_by_kmeans, make_labelled_start
from moiety.mixtures.fit import Search, rank_fits
from moiety.mixtures.laws import find_law
from moiety.mixtures.leap import pack_mixture, unpack_mixture
from moiety.mixtures.model import add_constant
from moiety.mixtures.noise import Noise


def make_rows(family, rows=150):
    rng = np.random.default_rng(3)
    x = rng.normal(size=(rows, 2))
    line = np.where(rng.random(rows) < 0.5, 0.6 + 0.5 * x[:, 0], -0.4 - 0.5 * x[:, 1])
    if family == "classes":
        y = (line + 0.8 * rng.normal(size=rows) > 0).astype(float)
    elif family in ("poisson", "negative_binomial"):
        y = rng.poisson(np.exp(line)).astype(float)
    elif family == "gamma":
        y = rng.gamma(4, np.exp(line) / 4)
    else:
        y = line + 0.3 * rng.standard_t(5, size=rows)
    return add_constant(x), y, np.ones(rows)


@pytest.mark.parametrize("family", ["normal", "noise", "student", "poisson", "negative_binomial",
                                    "gamma", "classes"])  # fmt: skip
def test_leaps_end_where_em_ends(family, monkeypatch):
    """No fall on the way, the same maximum, and fewer steps where EM creeps."""
    rows = make_rows(family)
    law = None if family in ("normal", "noise", "classes") else find_law(family)
    noise = Noise(-4.0, 4.0) if family == "noise" else None
    prior = Prior(1e-3, free=Search(2).prior.free)
    search = Search(2, classes=2 * (family == "classes"), law=law, noise=noise, prior=prior)
    labels = (rows[1] > np.median(rows[1])).astype(int)
    start = search.admit(make_labelled_start(search.make_blank(3), rows, labels, np.arange(3)))
    passes = []

    def sum_at(mixture):
        passes.append(mixture)
        return sum_rows(mixture, [rows])

    leaping = run_em(sum_at, start, prior=prior, tol=1e-9, max_iter=3000)
    counted = len(passes)
    monkeypatch.setattr(climb, "PLAIN_STEPS", 10_000)
    plain = run_em(sum_at, start, prior=prior, tol=1e-11, max_iter=3000)
    assert leaping.converged
    assert plain.converged
    value = climb.compute_penalised_likelihood(leaping.mixture, leaping.sums, prior)
    known = climb.compute_penalised_likelihood(plain.mixture, plain.sums, prior)
    assert value == pytest.approx(known, abs=1e-4)
    assert counted < len(passes) - counted


def test_a_vector_is_a_mixture():
    rows = make_rows("student")
    search = Search(2, law=find_law("student"), noise=Noise(-4.0, 4.0, 0.2))
    labels = (rows[0][:, 1] > 0).astype(int)
    found = search.admit(make_labelled_start(search.make_blank(3), rows, labels, np.arange(3)))
    again = unpack_mixture(found, pack_mixture(found), 1e-6)
    np.testing.assert_allclose(pack_mixture(again), pack_mixture(found), rtol=1e-12)
    wild = pack_mixture(found)
    wild[-5:-1] += 100.0  # the logarithms of the spreads
    leapt = unpack_mixture(found, wild, 1e-6).experts.spreads
    assert (leapt <= found.experts.spreads * np.e * (1 + 1e-12)).all()
    assert (leapt[1] <= 200).all()


def test_of_climbs_that_end_alike_the_first_counts():
    rows = make_rows("normal")
    start = make_labelled_start(
        Search(2).make_blank(3), rows, (rows[1] > 0).astype(int), np.arange(3)
    )
    end = run_em(lambda mixture: sum_rows(mixture, [rows]), start)
    rng = np.random.default_rng(0)
    for _ in range(5):
        order = rng.permutation(4)
        values = np.array([-300.0, -300.0, -310.0, -200.0])[order] + 1e-5 * rng.normal(size=4)
        fits = [climb.replace(end, trace=(value,)) for value in values]
        ranked = [int(order[at]) for at in rank_fits(fits)]
        assert (ranked[0], ranked[-1]) == (3, 2)
        assert ranked[1] == next(int(one) for one in order if one < 2)


@pytest.mark.parametrize("seed", range(5))
def test_no_start_tells_a_weight_from_a_row_again(seed):
    """Rows at one place are never parted, whatever their weights and their order."""
    rng = np.random.default_rng(seed)
    features, counts = rng.normal(size=(40, 3)), rng.integers(1, 4, 40)
    repeated = np.repeat(np.arange(40), counts)
    rng.shuffle(repeated)
    direction = rng.normal(size=3)
    few = cut_slabs(features, counts.astype(float), 3, direction)
    many = cut_slabs(features[repeated], np.ones(len(repeated)), 3, direction)
    np.testing.assert_array_equal(many, few[repeated])
    few = label_by_kmeans(features, counts.astype(float), 3, np.random.default_rng(9))
    many = label_by_kmeans(features[repeated], np.ones(len(repeated)), 3, np.random.default_rng(9))
    np.testing.assert_array_equal(many, few[repeated])
