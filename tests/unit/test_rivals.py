"""Rivals by their definitions: identities with FedAvg and DDOME, and steps computed by hand."""

from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from moiety.core.axes import take_piece
from moiety.core.rows import TransformedRows, take_all_rows
from moiety.core.streams import stream
from moiety.engine.serial import Serial
from moiety.methods.apfl import apfl
from moiety.methods.ddome import ddome
from moiety.methods.demo import make_two_class_workers
from moiety.methods.ditto import ditto
from moiety.methods.ensemble import ensemble
from moiety.methods.fedavg import fedavg
from moiety.methods.fedbn import fedbn
from moiety.methods.fedem import fedem
from moiety.methods.fedmix import fedmix
from moiety.methods.fedper import find_head
from moiety.methods.fedrep import fedrep
from moiety.methods.ifca import ifca
from moiety.methods.perfedavg import perfedavg
from moiety.models.components import LABELS, MIX
from moiety.models.normed import normed
from moiety.models.personal import OWN_PREFIX, TRAINED
from moiety.models.stacked import EXPERT, PREFIX, take_model
from moiety.ops.optim import SGD, Phased
from moiety.rounds.commit import commit_replies
from moiety.rounds.synchronous import initialise_state, make_jobs, play_round, query_jobs
from moiety.serve.config import rebuild_model, rebuild_serve
from moiety.serve.mixed import weigh_models_once
from moiety.solve.sgd import OWN
from moiety.tasks.numbers import Numbers

LR = 0.1


@pytest.fixture
def problem():
    """Give a task of plain steps of SGD, and the rows of its workers."""
    task, data = make_two_class_workers(stream(3, "demo"))
    return replace(task, local=replace(task.local, momentum=0.0, lr=LR, steps=2)), data


def open_all(method, data):
    known = data.__getitem__
    return known if method.transform is None else TransformedRows(known, method.transform)


def play(method, data, rounds=2, cohort=(0, 1, 2)):
    """Play some rounds; give the state and what workers kept."""
    engine, state = Serial(open_all(method, data), {}), initialise_state(method)
    for _ in range(rounds):
        state = play_round(method, engine, state, list(cohort), 7)
    return state, engine.memory


def same(found, wanted, tolerance=0.0):
    for name, tensor in wanted.items():
        torch.testing.assert_close(found[name], tensor, rtol=tolerance, atol=tolerance)


def lose(task, params, batch):
    """Give the cross-entropy of each row, [B]."""
    return F.cross_entropy(task.model.logits(params, batch, {}), batch["y"], reduction="none")


def gradients(task, params, batch):
    """Differentiate the mean loss of some rows."""
    moving = {name: t.clone().requires_grad_() for name, t in params.items()}
    out, _ = task.model.forward(moving, batch, {})
    grads = torch.autograd.grad(F.cross_entropy(out, batch["y"]), list(moving.values()))
    return dict(zip(moving, grads, strict=True))


def first_batches(method, rows, worker=0, round_index=0):
    """Give the batches of a worker's round, in their order."""
    job = next(iter(make_jobs(method, initialise_state(method), [worker], {}, 7)))
    plan = method.solve.plan(rows.size, replace(job, round=round_index))
    kept = zip(plan.rows, plan.weights, strict=True)
    return [rows.take(ids[weights > 0]) for ids, weights in kept]


@pytest.mark.parametrize("models", [1, 3])
def test_each_model_of_an_ensemble_is_fedavg_from_its_own_start(problem, models):
    task, data = problem
    method = ensemble(task, models=models)
    state, _ = play(method, data)
    for place in range(models):
        start = take_model(method.model.params, place)
        alone, _ = play(fedavg(replace(task, start=start)), data)
        same(take_model(state.params, place), alone.params)
    batch = take_all_rows(data[0])
    outs = [task.model.logits(take_model(state.params, k), batch, {}) for k in range(models)]
    mean = torch.stack([out.softmax(-1) for out in outs]).mean(0)
    torch.testing.assert_close(method.serve.scores(state.params, batch, {}).exp(), mean)


def test_fedmix_is_ddome_that_sends_all_experts_and_has_no_anchors(problem):
    task, data = problem
    mine = fedmix(task, experts=2, from_common=False)
    other = ddome(replace(task, anchors={}), experts=2, k=2, serve="soft")
    found, wanted = (play(method, data)[0] for method in (mine, other))
    same(found.params, wanted.params)
    alone, _ = play(fedmix(task, experts=1), data)  # one expert needs no gate: FedAvg
    plain, _ = play(fedavg(replace(task, start=task.common.params)), data)
    same(take_model(alone.params, 0), plain.params, 1e-5)


def test_fedem_weighs_models_by_the_rows_they_answer_for(problem):
    task, data = problem
    one, _ = play(fedem(task, models=1), data)
    start = take_model(fedem(task, models=1).model.params, 0)
    same(take_model(one.params, 0), play(fedavg(replace(task, start=start)), data)[0].params, 1e-5)

    method = fedem(task, models=3)
    engine = Serial(data.__getitem__, {})
    jobs = make_jobs(method, initialise_state(method), [4], {}, 7)
    [reply] = engine.map(method.solve, jobs)
    batch = take_all_rows(data[4])
    loss_KB = torch.stack([
        lose(task, take_model(reply.piece, k), batch) for k in range(3)
    ])  # fmt: skip
    held_K = (-loss_KB).softmax(0).mean(1)  # equal weights before
    torch.testing.assert_close(engine.memory[4][OWN][MIX].exp(), held_K, atol=1e-5, rtol=0)
    assert set(reply.piece) == {PREFIX + name for name in task.model.params}
    model: Any = method.model
    once = weigh_models_once(model, reply.piece, data[4], task.objective)
    torch.testing.assert_close(once[MIX].exp(), held_K, atol=1e-5, rtol=0)
    told = method.serve.scores({**reply.piece, **engine.memory[4][OWN]}, batch, {}).exp()
    each = [task.model.logits(take_model(reply.piece, k), batch, {}).softmax(-1) for k in range(3)]
    wanted = sum(weight * p for weight, p in zip(held_K, each, strict=True))
    torch.testing.assert_close(told, wanted, atol=1e-5, rtol=0)


def test_a_step_of_fedem_weighs_gradients_by_responsibilities(problem):
    task, data = problem
    task = replace(task, local=replace(task.local, steps=1))
    method = fedem(task, models=2)
    [batch] = first_batches(method, data[0])
    state, _ = play(method, data, rounds=1, cohort=[0])
    starts = [take_model(method.model.params, k) for k in range(2)]
    loss_KB = torch.stack([
        lose(task, start, batch) for start in starts
    ])  # fmt: skip
    held_KB = (-loss_KB).softmax(0)
    for place, start in enumerate(starts):
        moving = {name: t.clone().requires_grad_() for name, t in start.items()}
        loss = (held_KB[place] * lose(task, moving, batch)).mean()
        grads = torch.autograd.grad(loss, list(moving.values()))
        wanted = {n: t - LR * g for (n, t), g in zip(start.items(), grads, strict=True)}
        same(take_model(state.params, place), wanted, 1e-5)


def test_fedrc_divides_by_the_share_of_a_rows_class(problem):
    """A likelihood is over how often the model has the class of the row."""
    task, data = problem
    method, plain = fedem(task, models=2, robust=True), fedem(task, models=2)
    first, engine = initialise_state(method), Serial(data.__getitem__, {})
    [reply] = engine.map(method.solve, make_jobs(method, first, [4], {}, 7))
    alone, _ = play(plain, data, rounds=1, cohort=[4])
    same(take_model(reply.piece, 1), take_model(alone.params, 1))  # equal shares: FedEM
    model: Any = method.model
    assert rebuild_model(model.config()).params.keys() == method.model.params.keys()
    batch = take_all_rows(data[4])
    held_KB = hold_rows(task, reply.piece, batch, torch.ones(2, len(batch["y"])))
    told_KC = torch.stack([held_KB[:, batch["y"] == c].sum(1) for c in range(6)], 1)
    torch.testing.assert_close(reply.piece[LABELS], told_KC / len(batch["y"]), atol=1e-5, rtol=0)

    state = commit_replies(method, first, [reply])
    [again] = engine.map(method.solve, make_jobs(method, state, [4], {}, 7))
    share_KC = (told_KC / told_KC.sum(1, keepdim=True)).clamp_min(1e-6)
    prior_KB = (held_KB.mean(1)[:, None] / share_KC)[:, batch["y"]]
    held_KB = hold_rows(task, again.piece, batch, prior_KB)
    found = engine.memory[4][OWN][MIX].exp()
    torch.testing.assert_close(found, held_KB.mean(1), atol=1e-4, rtol=0)


def hold_rows(task, params, batch, prior_KB):
    """Give the shares of rows for which each of two models answers, [K, B]."""
    losses = [lose(task, take_model(params, k), batch) for k in range(2)]
    held_KB = prior_KB * torch.stack(losses).neg().exp()
    return held_KB / held_KB.sum(0)


def test_a_shared_expert_is_fedavgs_model(problem):
    """It learns as if alone; where the gate gives the others no weight, answers are FedAvg's."""
    task, data = problem
    method = ddome(task, experts=3, k=2, serve="soft", shared=True)
    state, _ = play(method, data, cohort=range(6))
    plain = fedavg(replace(task, start=task.common.params))
    wanted, _ = play(plain, data, cohort=range(6))
    same(take_model(state.params, 3), wanted.params, 1e-6)

    batch = task.common(take_all_rows(data[5]))
    bias = state.params["gate.layer2.b"] - torch.tensor([1e4, 1e4, 1e4, 0])
    part = method.serve.choose(state.params, open_all(method, data)(5))
    assert part.axes[EXPERT][-1] == 3
    piece = take_piece({**state.params, "gate.layer2.b": bias}, method.model.axes, part)
    told = method.serve.scores(piece, batch, part.axes)
    torch.testing.assert_close(told, plain.serve.scores(wanted.params, batch, {}))
    built: Any = method
    assert rebuild_serve(built.serve.config(), built.model, task.objective) == method.serve


def test_bytes_of_a_shared_expert(problem):
    task, data = problem
    one, e = sum(t.nbytes for t in task.model.params.values()), 3
    for anchor, wanted in ((0, 2 * one), (4, 3 * one)):  # its own and all's; two of its choice
        method = ddome(task, experts=e, k=2, shared=True)
        state, engine = initialise_state(method), Serial(open_all(method, data), {})
        assert method.query is not None
        asked = query_jobs(method, state, [anchor], 7)
        answers = {r.worker: r.answer for r in engine.map(method.query.solve, asked)}
        [job] = make_jobs(method, state, [anchor], answers, 7)
        gate = sum(t.nbytes for n, t in state.params.items() if n.startswith("gate."))
        assert job.down_bytes == wanted + (0 if answers else gate)


def test_a_worker_of_ifca_trains_the_model_of_least_loss(problem):
    task, data = problem
    one = ifca(task, models=1)
    start = take_model(one.model.params, 0)
    plain, _ = play(fedavg(replace(task, start=start)), data)
    same(take_model(play(one, data)[0].params, 0), plain.params)

    method, worker = ifca(task, models=3), 4
    state, engine = initialise_state(method), Serial(data.__getitem__, {})
    asked = list(query_jobs(method, state, [worker], 7))
    assert method.query is not None
    answers = {r.worker: r.answer for r in engine.map(method.query.solve, asked)}
    [job] = make_jobs(method, state, [worker], answers, 7)
    batch = take_all_rows(data[worker])
    outs = [task.model.logits(take_model(state.params, k), batch, {}) for k in range(3)]
    losses = [float(F.cross_entropy(out, batch["y"])) for out in outs]
    assert job.share.part.axes[EXPERT].tolist() == [losses.index(min(losses))]
    size = sum(t.nbytes for t in task.model.params.values())
    assert asked[0].down_bytes == 3 * size
    assert job.down_bytes == 4  # the models came with the question; a weight that nobody reads

    entropies = [float(-(out.softmax(-1) * out.log_softmax(-1)).sum(-1).mean()) for out in outs]
    part = method.serve.choose(state.params, data[worker])
    assert part.axes[EXPERT].tolist() == [entropies.index(min(entropies))]


def test_ditto_shares_fedavg_and_keeps_a_model_near_it(problem):
    task, data = problem
    task = replace(task, local=replace(task.local, steps=1))
    method = ditto(task, lam=0.5)
    first, kept = play(method, data, rounds=1)
    before = {n: t.clone() for n, t in kept[0][OWN].items()}
    second, kept = play(method, data, rounds=2)
    plain, _ = play(fedavg(task), data, rounds=2)
    same(second.params, plain.params)
    [batch] = first_batches(method, data[0], round_index=1)
    own = {n.removeprefix(OWN_PREFIX): t for n, t in before.items() if n != TRAINED}
    grads = gradients(task, own, batch)
    wanted = {n: t - LR * (grads[n] + 0.5 * (t - first.params[n])) for n, t in own.items()}
    same(kept[0][OWN], {OWN_PREFIX + n: t for n, t in wanted.items()}, 1e-6)

    rows, mine = take_all_rows(data[0]), {**second.params, **kept[0][OWN]}
    for params, used in ((mine, wanted), (second.params, plain.params)):
        told = method.serve.scores(params, rows, {})
        log_BC = task.model.logits(used, rows, {}).log_softmax(-1)
        torch.testing.assert_close(told, log_BC, atol=1e-5, rtol=0)


def test_ditto_without_a_leash_is_local_training_alone(problem):
    """With lam=0 a worker's model goes on from where it was, whatever the others send."""
    task, data = problem
    _, kept = play(ditto(task, lam=0.0), data, rounds=2)
    alone, _ = play(fedavg(task), data, rounds=2, cohort=[0])  # a federation of one
    same(kept[0][OWN], {OWN_PREFIX + n: t for n, t in alone.params.items()})


def test_apfl_trains_a_worker_for_the_mixture_it_uses(problem):
    task, data = problem
    task = replace(task, local=replace(task.local, steps=1))
    method = apfl(task, alpha=0.25)
    state, kept = play(method, data, rounds=1)
    same(state.params, play(fedavg(task), data, rounds=1)[0].params)
    [batch] = first_batches(method, data[0])
    start = task.model.params
    grads = gradients(task, start, batch)  # both begin there, and so does their mixture
    own = {n: t - LR * 0.25 * grads[n] for n, t in start.items()}
    same(kept[0][OWN], {OWN_PREFIX + n: t for n, t in own.items()}, 1e-6)
    used = {n: 0.25 * t + 0.75 * state.params[n] for n, t in own.items()}
    rows = take_all_rows(data[0])
    told = method.serve.scores({**state.params, **kept[0][OWN]}, rows, {})
    wanted = task.model.logits(used, rows, {}).log_softmax(-1)
    torch.testing.assert_close(told, wanted, atol=1e-5, rtol=0)
    again = rebuild_model(method.model.config())  # type: ignore[attr-defined]
    torch.testing.assert_close(
        again.logits({**state.params, **kept[0][OWN]}, rows, {}).log_softmax(-1), told
    )
    whole, alone = (
        play(one, data)[1][0][OWN] for one in (apfl(task, alpha=1.0), ditto(task, lam=0))
    )
    same(whole, alone)


def test_fedbn_keeps_norms_at_the_worker_and_averages_the_rest(problem):
    task, data = problem
    task = replace(task, model=normed((8, 6, 6), stream(0, "net")))
    method = fedbn(task)
    state, kept = play(method, data, rounds=1, cohort=[0])
    plain, _ = play(fedavg(task), data, rounds=1, cohort=[0])  # a federation of one is FedAvg
    norms = {"norm1.g", "norm1.s"}
    assert kept[0][OWN].keys() == norms
    same({**state.params, **kept[0][OWN]}, plain.params)
    same({n: state.params[n] for n in norms}, {n: task.model.params[n] for n in norms})
    with pytest.raises(ValueError, match="means all parameters"):
        fedbn(replace(task, model=problem[0].model), norms=("*",))
    with pytest.raises(ValueError, match="means no parameter"):
        fedbn(problem[0])


def test_fedrep_moves_the_head_and_then_the_body(problem):
    task, data = problem
    method = fedrep(task, head_steps=1)
    one, two = first_batches(method, data[0])
    engine = Serial(data.__getitem__, {})
    [reply] = engine.map(method.solve, make_jobs(method, initialise_state(method), [0], {}, 7))
    start = dict(task.model.params)
    head = [name for name in start if name not in reply.piece]
    grads = gradients(task, start, one)
    start.update({name: start[name] - LR * grads[name] for name in head})
    grads = gradients(task, start, two)
    same(engine.memory[0][OWN], {name: start[name] for name in head}, 1e-6)
    same(reply.piece, {n: start[n] - LR * grads[n] for n in reply.piece}, 1e-6)
    assert find_head(task, ()).keys() == set(head)


def test_a_rule_of_some_steps_stands_still_in_the_others():
    rule = Phased(SGD(1.0, momentum=0.5), 1, 3)
    param, grad, kept = torch.zeros(1), torch.ones(1), rule.start(torch.zeros(1))
    inner, inside = torch.zeros(1), {n: t.clone() for n, t in kept.items()}
    found = []
    for _ in range(4):
        param, kept = rule.update(param, grad, kept, 1.0)
        rule.update_in_place(inner, grad, inside, 1.0)
        found.append(float(param))
        assert torch.equal(param, inner)
    assert found == [0.0, -1.0, -2.5, -2.5]  # velocity 1, then 1.5


def test_perfedavg_scores_each_half_after_a_step_on_the_other(problem):
    task, data = problem
    same(play(perfedavg(task, alpha=0.0), data)[0].params, play(fedavg(task), data)[0].params, 1e-5)
    task = replace(task, local=replace(task.local, steps=1))
    method = perfedavg(task, alpha=0.3)
    [batch] = first_batches(method, data[0])
    even, odd = ({n: c[k::2] for n, c in batch.items()} for k in (0, 1))
    start, size = task.model.params, len(batch["y"])
    total = {name: torch.zeros_like(t) for name, t in start.items()}
    for inner, outer in ((odd, even), (even, odd)):
        step = gradients(task, start, inner)
        grads = gradients(task, {n: t - 0.3 * step[n] for n, t in start.items()}, outer)
        total = {n: t + grads[n] * len(outer["y"]) / size for n, t in total.items()}
    state, _ = play(method, data, rounds=1, cohort=[0])
    same(state.params, {n: t - LR * total[n] for n, t in start.items()}, 1e-6)


@pytest.mark.parametrize(
    ("make", "change", "said"),
    [
        (ensemble, {"clip": 1.0}, "clip"),
        (ditto, {"clip": 1.0}, "clip"),
        (fedrep, {"optimizer_state": "send"}, "optimizer_state"),
        (fedrep, {"steps": 5}, "head_steps"),
        (ifca, {"optimizer_state": "keep"}, "optimizer_state"),
    ],
)
def test_local_training_that_does_not_fit_is_refused(problem, make, change, said):
    task, _ = problem
    with pytest.raises(ValueError, match=said):
        make(replace(task, local=replace(task.local, **change)))


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda task: ensemble(task, models=0), "choose at least 1"),
        (lambda task: ditto(task, lam=-1.0), "lam"),
        (lambda task: perfedavg(task, alpha=-1.0), "alpha"),
        (lambda task: fedrep(task, head_steps=0), "head_steps"),
        (lambda task: ifca(replace(task, objective=Numbers(("y",)))), "numbers"),
        (lambda task: fedem(replace(task, objective=Numbers(("y",))), robust=True), "numbers"),
    ],
)
def test_options_that_do_not_fit_are_refused(problem, make, said):
    with pytest.raises(ValueError, match=said):
        make(problem[0])
