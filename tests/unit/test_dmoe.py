"""Distributed mixtures of experts as a method: against the estimators, and by hand."""

import contextlib
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from moiety.core.fold import Precision
from moiety.core.rows import TableRows
from moiety.core.state import Job, Reply, Share
from moiety.core.store import LocalStore
from moiety.engine.pool import Pool
from moiety.engine.serial import Serial
from moiety.estimators import DistributedMixtureOfExpertsClassifier
from moiety.estimators.machines import ShardEngine
from moiety.estimators.shards import HeldShard
from moiety.merge.transport import Transport
from moiety.methods.dmoe import demo, dmoe
from moiety.methods.task import Task
from moiety.mixtures.categorical import CategoricalExperts
from moiety.mixtures.experts import GaussianExperts
from moiety.mixtures.inputs import Support
from moiety.mixtures.learn import learn_rows
from moiety.mixtures.logit import pack_symmetric, unpack_symmetric
from moiety.mixtures.model import Mixture, count_mixture_parameters
from moiety.mixtures.reduce import ReductionConfig, reduce_mixtures
from moiety.models.mixture import FREE, WHOLE, MixtureModel, mixture
from moiety.models.mlp import linear
from moiety.rounds.synchronous import initialise_state, make_jobs, play_round
from moiety.serve.config import rebuild_model
from moiety.tasks.numbers import Numbers

SEED = 4


def task(inputs: int = 3, classes: int = 2) -> Task:
    return Task(linear(inputs, classes, torch.Generator()), shape=(inputs,), classes=classes)


def problem() -> tuple[Any, Any]:
    made = demo(torch.Generator().manual_seed(0))
    return made.method, made.data


def jobs_of(method, data, state=None) -> list[Job]:
    return list(make_jobs(method, state or initialise_state(method), sorted(data), {}, SEED))


def shard_of(rows: TableRows) -> HeldShard:
    batch = rows.take(torch.arange(rows.size))
    x = batch["x"].double().numpy()
    return HeldShard((x, batch["y"].double().numpy(), np.ones(len(x))), x.shape[1])


def fitted():
    """Fit the demo's workers twice: by an engine, and by the plain function on plain arrays."""
    method, data = problem()
    jobs = jobs_of(method, data)
    replies = list(Serial(data.__getitem__).map(method.solve, jobs))
    alone = []
    for job in jobs:
        rng = np.random.default_rng(int(method.solve.plan(data[job.worker].size, job).seeds[0]))
        x, y, weights = shard_of(data[job.worker]).rows
        learned = learn_rows((x, y, weights), method.solve.task.search, rng)
        alone.append((learned, x[rng.choice(len(x), min(64, len(x)), replace=False)]))
    return method, data, replies, alone


def test_a_worker_fits_what_it_would_fit_alone():
    _, data, replies, alone = fitted()
    for reply, (learned, support) in zip(replies, alone, strict=True):
        found = WHOLE.read(reply.piece)
        np.testing.assert_allclose(found.gate, learned.mixture.gate, rtol=1e-10, atol=1e-10)
        wanted = learned.mixture.experts.coef
        np.testing.assert_allclose(found.experts.coef, wanted, rtol=1e-10, atol=1e-10)
        information = unpack_symmetric(reply.answer["information"].numpy())
        np.testing.assert_allclose(information, learned.information, rtol=1e-9, atol=1e-9)
        np.testing.assert_array_equal(reply.answer["support"].numpy(), support)
        rows = data[reply.worker].size
        assert reply.precision.scalar == reply.record.rows == rows
        assert reply.record.loss_last == pytest.approx(-learned.trace[-1] / rows, rel=1e-9)
        assert reply.record.loss_first == pytest.approx(np.log(2))  # all zeros: a coin


def test_the_engine_of_shards_runs_the_same_jobs():
    """Rows taken step by step, and rows read through, give the same replies."""
    method, data, replies, _ = fitted()
    engine = ShardEngine([shard_of(data[worker]) for worker in sorted(data)], np.arange(2))
    for reply, other in zip(replies, engine.map(method.solve, jobs_of(method, data)), strict=True):
        for name, tensor in {**reply.piece, **reply.answer}.items():
            torch.testing.assert_close({**other.piece, **other.answer}[name], tensor)
        assert (other.precision, other.up_bytes) == (reply.precision, reply.up_bytes)
        assert other.record.loss_last == pytest.approx(reply.record.loss_last, rel=1e-9)
    (exchange,) = engine.exchanges
    assert exchange.up_bytes == sum(reply.up_bytes for reply in replies)
    assert exchange.down_bytes == 6 * 8 * 24


def merge_all(merge, params, axes, replies):
    under_way = merge.begin(LocalStore(params, axes))
    for reply in replies:
        under_way.add(reply)
    return under_way.close()


def test_the_merge_is_the_reduction_of_the_fits():
    method, _, replies, alone = fitted()
    merged = merge_all(method.merge, initialise_state(method).params, method.model.axes, replies)
    rows = [np.full(len(x), learned.rows / len(x)) for learned, x in alone]
    wanted = reduce_mixtures(
        [learned.local() for learned, _ in alone],
        Support(np.concatenate([x for _, x in alone]), np.concatenate(rows)),
        ReductionConfig(2, screen=False),
        np.random.default_rng(0),
    )
    found = WHOLE.read(merged.params)
    np.testing.assert_allclose(found.gate, wanted.mixture.gate, rtol=1e-6, atol=1e-6)
    coef = wanted.mixture.experts.coef
    np.testing.assert_allclose(found.experts.coef, coef, rtol=1e-6, atol=1e-6)


def test_the_round_predicts_what_the_estimator_predicts():
    """Other starts are drawn, so the same optimum is asked for, not the same bits."""
    data = problem()[1]
    method = dmoe(task(), starts=12, ridge=1e-3)
    state = play_round(
        method, Serial(data.__getitem__), initialise_state(method), sorted(data), SEED
    )
    shards = [shard_of(data[worker]).rows for worker in sorted(data)]
    estimator = DistributedMixtureOfExpertsClassifier(
        2, n_support=64 * 6, ridge=1e-3, n_init=12, random_state=0, screen=False
    ).fit(shards)
    x = np.concatenate([shard[0] for shard in shards])
    told = method.model.logits(state.params, {"x": torch.from_numpy(x)}, {}).exp().numpy()
    wanted = estimator.predict_proba(x)
    assert (told.argmax(1) == wanted.argmax(1)).mean() >= 0.99
    assert np.abs(told - wanted).mean() < 0.005


def test_probabilities_by_hand():
    """Gate odds 3 : 1 whatever x; the experts say 1/2 and, at x = 1, odds 4 : 1."""
    model = mixture(1, 2, 2)
    gate = torch.tensor([[np.log(3), 0.0], [0.0, 0.0]])
    experts = torch.zeros(2, 2, 2, dtype=torch.double)
    experts[1, 1, 0] = np.log(4)
    params = {"gate": gate, "experts": experts}
    told = model.logits(params, {"x": torch.tensor([[1.0], [0.0]])}, {}).exp()
    wanted = torch.tensor([[0.75 * 0.5 + 0.25 * 0.8, 0.375 + 0.25 * 0.2], [0.5, 0.5]])
    torch.testing.assert_close(told, wanted.double())


def test_a_predictive_mean_by_hand():
    """Gate odds 3 : 1; lines 2 + x and -2: at x = 1 the mean is 3/4 * 3 - 1/4 * 2."""
    experts = GaussianExperts(np.array([[2.0, -2.0], [1.0, 0.0]]), np.ones(2))
    made = Mixture(np.array([[np.log(3), 0.0], [0.0, 0.0]]), experts)
    for form in (FREE, WHOLE):
        model = MixtureModel(form.write(made, {}), {}, form)
        told = model.logits(model.params, {"x": torch.tensor([[1.0]])}, {})
        torch.testing.assert_close(told, torch.tensor([[1.75]], dtype=torch.double))


@pytest.mark.parametrize("experts", [1, 3])
@pytest.mark.parametrize("classes", [0, 2, 4])
def test_free_columns_are_all_that_is_sent(experts, classes):
    """The last gate column and the last class are 0 by convention, and come back as such."""
    rng = np.random.default_rng(0)
    gate, width = rng.normal(size=(3, experts)), (3, experts, classes)[: 3 if classes else 2]
    coef = rng.normal(size=width)
    family = CategoricalExperts(coef - coef[..., -1:]) if classes else GaussianExperts(
        coef, rng.uniform(1, 2, experts))  # fmt: skip
    made = Mixture(gate - gate[:, -1:], family)
    sent = FREE.write(made, {})
    assert sum(tensor.numel() for tensor in sent.values()) == count_mixture_parameters(made)
    back = FREE.read(sent)
    np.testing.assert_array_equal(back.gate, made.gate)
    np.testing.assert_array_equal(back.experts.coef, made.experts.coef)
    assert type(back.experts) is type(made.experts)


@pytest.mark.parametrize("classes", [0, 4])
def test_a_model_is_rebuilt_from_its_config(classes):
    model = mixture(3, 2, classes)
    again = rebuild_model(model.config())
    assert {n: t.shape for n, t in again.params.items()} == {
        n: t.shape for n, t in model.params.items()
    }
    redrawn = model.redraw(torch.Generator())
    assert all(torch.equal(redrawn[name], model.params[name]) for name in redrawn)
    same = WHOLE.write(WHOLE.read(model.params), model.params)
    assert all(torch.equal(same[name], model.params[name]) for name in same)


def test_the_same_mixture_from_everybody_is_the_result():
    model = mixture(1, 2, 2)
    piece = {name: torch.randn_like(tensor) for name, tensor in model.params.items()}
    replies = [Reply(w, Share(), piece, Precision(w + 1.0)) for w in range(3)]
    merged = merge_all(Transport(ReductionConfig(2)), model.params, model.axes, replies)
    assert all(torch.equal(merged.params[name], piece[name]) for name in piece)
    assert all(mask.all() for mask in merged.held.values())
    none = merge_all(Transport(ReductionConfig(2)), model.params, model.axes, [])
    assert not none.held
    assert all(torch.equal(none.params[name], model.params[name]) for name in piece)


def test_bytes_are_parameters_information_and_support():
    """Four columns, two experts, two classes: 8 + 16 numbers; a 4 x 4 triangle; 64 rows of 3."""
    method, data = problem()
    reply = next(iter(Serial(data.__getitem__).map(method.solve, jobs_of(method, data)[:1])))
    assert reply.up_bytes == 8 * (24 + 10 + 3 * 64)


def test_one_expert_is_one_logit_on_every_engine():
    """A single expert has no gate, and nothing to say of one."""
    _, data = problem()
    method = dmoe(task(), experts=1, starts=1)
    results = [
        play_round(method, engine, initialise_state(method), [0, 1], SEED).params
        for engine in (Serial(data.__getitem__), Pool(data.__getitem__, processes=1))
    ]
    for name in results[0]:
        assert torch.equal(results[0][name], results[1][name])
    with contextlib.closing(Pool(data.__getitem__, processes=2)) as pool:
        spread = play_round(method, pool, initialise_state(method), [0, 1], SEED).params
    assert all(torch.equal(spread[name], results[0][name]) for name in spread)


def test_a_second_round_goes_on_from_the_first():
    method, data = problem()
    engine, state, replies = Serial(data.__getitem__), initialise_state(method), []
    for _ in range(2):
        replies = list(engine.map(method.solve, jobs_of(method, data, state)))
        state = play_round(method, engine, state, sorted(data), SEED)
    for reply in replies:
        assert reply.record.loss_last <= reply.record.loss_first < np.log(2)


def test_packing_is_undone():
    matrix = np.array([[2.0, -1.0, 0.0], [-1.0, 3.0, -4.0], [0.0, -4.0, 1.0]])
    assert pack_symmetric(matrix).tolist() == [2.0, -1.0, 0.0, 3.0, -4.0, 1.0]
    np.testing.assert_array_equal(unpack_symmetric(pack_symmetric(matrix)), matrix)


@pytest.mark.parametrize(("changes", "said"), [
    ({"experts": 0}, "experts=0"),
    ({"support": 0}, "support=0"),
    ({"gate": "posterior"}, "gate 'posterior'; choose one of"),
])  # fmt: skip
def test_choices_that_do_not_fit(changes, said):
    with pytest.raises(ValueError, match=said):
        dmoe(task(), **changes)


def test_a_task_must_say_how_wide_it_is():
    with pytest.raises(ValueError, match=r"give Task\(shape=..., classes=...\)"):
        dmoe(replace(task(), shape=()))


def test_a_number_is_learned_in_its_own_unit():
    """Two lines that one cannot follow; the answers are in the target's unit, far from 0."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(600, 2))
    y = 1000 + 50 * np.where(x[:, 0] > 0, 3 + x[:, 1], -3 - x[:, 1]) + rng.normal(size=600)
    batch = {"x": torch.from_numpy(x).float(), "y": torch.from_numpy(y)[:, None].float()}
    data = {w: TableRows(batch, torch.arange(w, 600, 3)) for w in range(3)}
    objective = Numbers(("price",)).fit(batch["y"])
    found = {}
    for experts in (1, 2):
        here = replace(task(2, 1), objective=objective)
        method = dmoe(here, experts=experts, starts=3, ridge=1e-6)
        state = play_round(
            method, Serial(data.__getitem__), initialise_state(method), sorted(data), SEED
        )
        told = method.serve.scores(state.params, batch, {})[:, 0].double().numpy()
        found[experts] = np.sqrt(np.mean((told - y) ** 2))
    assert found[2] < 0.5 * found[1]
    assert found[2] < 40
    with pytest.raises(ValueError, match="choose one target and loss='squared'"):
        dmoe(replace(here, objective=Numbers(("a", "b"))))


def test_a_worker_without_rows_is_refused():
    method, _ = problem()
    with pytest.raises(ValueError, match="no rows"):
        method.solve.plan(0, Job(0, 0, 0, Share(), {}))


def test_two_experts_learn_what_one_cannot():
    """One logit of x1 + x2 is right on three quarters of the rows, two and a gate on nearly all."""
    _, data = problem()
    rows = [data[worker].take(torch.arange(data[worker].size)) for worker in data]
    batch = {name: torch.cat([one[name] for one in rows]) for name in rows[0]}
    right = []
    for experts in (1, 2):
        method = dmoe(task(), experts=experts, ridge=1e-3)
        state = play_round(
            method, Serial(data.__getitem__), initialise_state(method), sorted(data), SEED
        )
        guess = method.model.logits(state.params, batch, {}).argmax(1)
        right.append(float((guess == batch["y"]).double().mean()))
    assert right[0] < 0.8
    assert right[1] > 0.95


def test_a_worker_whose_labels_are_wrong_is_screened_out_where_asked():
    """Left out, it costs nothing; taken in, it does."""
    _, data = problem()
    wrong = data[2].take(torch.arange(data[2].size))
    wrong = {**wrong, "y": 1 - wrong["y"]}
    spoilt = {**data, 2: TableRows(wrong, torch.arange(data[2].size))}

    def play(rows, **options):
        method = dmoe(task(), ridge=1e-3, starts=3, max_iter=60, **options)
        engine = Serial(rows.__getitem__)
        return play_round(method, engine, initialise_state(method), sorted(rows), SEED).params

    x = torch.cat([rows.take(torch.arange(rows.size))["x"] for rows in data.values()])
    y = torch.cat([rows.take(torch.arange(rows.size))["y"] for rows in data.values()])

    def score(params):
        guess = mixture(3, 2, 2).logits(params, {"x": x}, {}).argmax(1)
        return float((guess == y).double().mean())

    alone = score(play({worker: rows for worker, rows in data.items() if worker != 2}))
    assert score(play(spoilt, screen=True)) == pytest.approx(alone, abs=0.02)
    assert score(play(spoilt)) < alone - 0.02
