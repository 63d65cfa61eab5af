"""Prompts over workers: DDOME's gate, query and split on the axis ``prompt``, one frozen model."""

import json
from dataclasses import replace

import pytest
import torch
from torch.testing import assert_close

from moiety import (
    LocalTraining,
    TableRows,
    Task,
    TrainConfig,
    TransformedRows,
    initialise_state,
    make_engine,
    play_round,
    train,
)
from moiety.core.streams import stream
from moiety.methods.mops import find_gate_rate, find_taught, measure_usage, mops
from moiety.prompts import (
    GateTraining,
    add_expert,
    make_prompted,
    pretrain_gate,
    put_params,
    read_requests,
)
from moiety.recipes.scaling import move_model
from moiety.tasks.tokens import Tokens
from tests.prompts.conftest import choose, get_model, label_from, make_base, make_rows, score, tune
from tests.prompts.test_adapters import load

LOCAL = LocalTraining(optimizer="adam", lr=0.1, batch=4, epochs=1)


def make_texts(skill, rows=12, seed=0):
    """Make requests of a skill, told by its tokens, and the answer that this skill has."""
    rng = torch.Generator().manual_seed(100 * skill + seed)
    ask = 3 + 19 * skill + torch.randint(4, (rows, 5), generator=rng)
    tokens = torch.cat([ask, torch.full((rows, 3), 10 + 19 * skill)], 1)
    y = tokens[:, 1:].clone()
    y[:, :4] = -1
    return {"x": tokens[:, :-1].clone(), "y": y}


def make_workers(seed=0):
    """Give two workers to each of three skills."""
    return {w: TableRows(make_texts(w % 3, seed=seed + w // 3), torch.arange(12)) for w in range(6)}


def make_task(model, rounds):
    return Task(model, LOCAL, rounds=rounds, objective=Tokens(tuple(map(str, range(60)))))


def make_taught(attention="sdpa"):
    """Make a tuned model whose gate knows the skills, from requests alone."""
    tuned = get_model(make_base(attention=attention), choose()).eval()
    ask = torch.cat([make_texts(skill, 20, 9)["x"][:, :5] for skill in range(3)])
    skills = torch.arange(3).repeat_interleave(20)
    z = read_requests(tuned, [{"input_ids": ask}])
    pretrain_gate(tuned, z, skills, training=GateTraining(lr=1e-2))
    return tuned


def test_the_model_is_the_tuner():
    """With all prompts at hand the scores are those of the tuned model; padding changes nothing."""
    tuned, ids = tune(make_base()), make_rows(2, 9)
    model = make_prompted(tuned)
    y = torch.cat([ids[:, 1:], torch.full((2, 1), -1)], 1)
    y[:, :4] = -1
    found = model.logits(model.params, {"x": ids, "y": y}, {})
    assert_close(found, score(tuned, ids, labels=label_from(ids, 5)), rtol=1e-4, atol=2e-5)
    padded = {"x": torch.cat([ids, -torch.ones(2, 3).long()], 1), "y": torch.cat([y, y[:, :3]], 1)}
    padded["y"][:, 9:] = -1
    assert_close(model.logits(model.params, padded, {})[:, :9], found, rtol=1e-4, atol=2e-5)
    kept = {"prompt": torch.tensor([1])}
    piece = {n: t[1:2] if n.startswith("prompts") else t for n, t in model.params.items()}
    alone = tune(make_base(), num_experts=1, gate_mode="none")
    with torch.no_grad():
        for place, layer in alone.base_model.layers().items():
            layer.mops_prompts["default"].copy_(piece[f"prompts.{place}"])
    one = model.logits(piece, {"x": ids, "y": y}, kept)
    assert_close(one, score(alone, ids), rtol=1e-4, atol=2e-5)


def test_it_moves_to_a_device_whole():
    """Prompts, gate and the frozen model: a machine's processor answers after it as before."""
    model, batch = make_prompted(tune(make_base())), {"x": make_rows(2, 9)}
    before = model.logits(model.params, batch, {})
    here = move_model(model, "cpu")
    assert torch.equal(here.logits(here.params, batch, {}), before)
    assert (
        here.constants["lm_head.weight"].data_ptr() == model.constants["lm_head.weight"].data_ptr()
    )
    away = move_model(here, "meta")
    held = [*away.params.values(), *away.constants.values(), *away.tuned.parameters()]
    assert {t.device.type for t in held} == {"meta"}


def test_the_gate_sees_no_answer():
    model = make_prompted(tune(make_base()))
    batch = make_texts(0)
    other = {**batch, "x": batch["x"].clone()}
    other["x"][:, 5:] = 7
    assert torch.equal(model.common(batch)["embed"], model.common(other)["embed"])


@pytest.mark.parametrize(("k", "merge"), [(0, "usage"), (1, "holders")])
def test_workers_learn_and_hold_what_their_gate_picks(k, merge, tmp_path):
    """Loss falls; a piece holds k experts of each layer and the gate, and no number of the base."""
    model = make_prompted(make_taught())
    method = mops(make_task(model, 4), k=k, merge=merge)
    workers, test = make_workers(), make_workers(seed=5)
    how = TrainConfig(rounds=4, size=6, evaluate_every=4, engine="serial")
    state = train(method, workers, tmp_path, how, test={"unseen": test})
    lines = [json.loads(one) for one in (tmp_path / "ledger.jsonl").read_text().splitlines()]
    rounds = [one for one in lines if one.get("kind") == "round" or "loss" in one]
    assert rounds
    before, after = (measure_loss(method, params, test) for params in (model.params, state.params))
    assert after < 0.9 * before
    assert set(state.params) == set(model.params)
    held = {"prompts.1", "prompts.2"}
    assert {n for n, e in model.axes.items() if e[0] == "prompt"} == held


def measure_loss(method, params, workers):
    """Average the loss of the rows of all workers, each by the prompts that it would choose."""
    losses = []
    for rows in workers.values():
        batch = method.transform(rows.take(torch.arange(rows.size)))
        part = method.serve.choose(params, TableRows(batch, torch.arange(rows.size)))
        piece = {
            n: t.index_select(0, part.axes["prompt"]) if n.startswith("prompts") else t
            for n, t in params.items()
        }
        with torch.no_grad():
            told = method.serve.scores(piece, batch, part.axes)
        real = batch["y"] != -1
        losses.append(-told[real].gather(-1, batch["y"][real][:, None]).mean())
    return float(torch.stack(losses).mean())


def play(method, engine, rounds=2):
    assert method.transform is not None
    rows = TransformedRows(make_workers().__getitem__, method.transform)
    made, state = make_engine(engine, rows), initialise_state(method)
    for _ in range(rounds):
        state = play_round(method, made, state, cohort=range(6), seed=0)
    made.close()
    return state.params


def test_an_expert_that_nobody_uses_stays_as_it_is():
    """Adam makes whole steps of its tiny gradients; they are noise, and the server hears none."""
    model = make_prompted(make_taught())
    rows = TransformedRows(make_workers().__getitem__, model.common)
    sure = {n: 5 * t if n.startswith("gate.layer2") else t for n, t in model.params.items()}
    moved = []
    for least in (0.25, 0.0):
        method = mops(replace(make_task(model, 2), start=sure), least_usage=least)
        state = initialise_state(method)
        after = play_round(method, make_engine("serial", rows), state, cohort=[0], seed=0)
        moved.append(
            [not torch.equal(after.params["prompts.1"][e], model.params["prompts.1"][e])
             for e in range(3)]
        )  # fmt: skip
    assert moved == [[True, False, False], [True, True, True]]


@pytest.mark.parametrize(("knows", "rate"), [(True, -1.0), (True, 0.1), (False, -1.0)])
def test_a_gate_that_was_taught_is_kept(knows, rate):
    """One that knows nothing learns, and so does one that is told to."""
    model = make_prompted(make_taught() if knows else get_model(make_base(), choose()).eval())
    after = play(mops(make_task(model, 2), gate_rate=rate), "serial")
    kept = [torch.allclose(after[n], t, atol=1e-6) for n, t in model.params.items() if "gate" in n]
    assert all(kept) == (knows and rate < 0)


@pytest.mark.parametrize("knows", [True, False])
def test_whether_a_gate_was_taught_is_saved_with_it(knows, tmp_path):
    """One that learnt on untaught has numbers too, and goes on learning where it is loaded."""
    tuned = make_taught() if knows else get_model(make_base(), choose()).eval()
    model = make_prompted(tuned)
    put_params(tuned, play(mops(make_task(model, 2), gate_rate=1.0), "serial"))
    tuned.save_pretrained(tmp_path)
    loaded = make_prompted(load(make_base(), tmp_path))
    assert bool(loaded.params["gate.layer2.w"].any())
    assert find_gate_rate(loaded, -1.0) == (0.0 if knows else 0.1)
    add_expert(loaded.tuned)  # whose score is still to be learnt
    assert find_gate_rate(make_prompted(loaded.tuned), -1.0) == 0.1


def test_a_gate_that_can_learn_nothing_is_as_one_never_taught():
    """Requests that look alike, one held out whose skill no other has: never right."""
    tuned, training = get_model(make_base(), choose()).eval(), GateTraining(steps=5)
    first = int(torch.randperm(10, generator=stream(training.seed, "gate", "held out"))[0])
    skills = torch.arange(10) % 2
    skills[first] = 2
    fit = pretrain_gate(tuned, torch.ones(10, 16), skills, training=training)
    assert not fit.learnt
    assert fit.accuracy == 0
    model = make_prompted(tuned)
    assert not model.params["gate.layer2.w"].any()
    assert not find_taught(model, model.params)
    assert not find_taught(model, None)


@pytest.mark.parametrize(("engine", "attention"), [("vectorized", "eager"), ("pool", "sdpa")])
def test_every_engine_agrees(engine, attention):
    """Torch's scaled dot product cannot be stacked where its mask learns; sums can."""
    method = mops(make_task(make_prompted(make_taught(attention)), 2), k=2)
    expected, found = play(method, "serial", 1), play(method, engine, 1)
    for name, tensor in expected.items():
        assert_close(found[name], tensor, rtol=1e-3, atol=1e-4)


def test_bytes_are_those_of_the_prompts_at_hand():
    """The gate to ask, then k experts of each layer; nothing of the frozen model ever."""
    model = make_prompted(make_taught())
    method = mops(make_task(model, 2), k=1)
    numbers = {n: t.numel() for n, t in model.params.items()}
    gate = sum(count for name, count in numbers.items() if name.startswith("gate"))
    prompts = sum(numbers.values()) - gate
    seen = []

    class Watched:
        def __init__(self, inner):
            self.inner, self.memory, self.transfers = inner, inner.memory, inner.transfers

        def map(self, solve, jobs):
            jobs = list(jobs)
            for job, reply in zip(jobs, self.inner.map(solve, jobs), strict=True):
                seen.append((job.down_bytes, reply.up_bytes))
                yield reply

        def close(self):
            self.inner.close()

    rows = TransformedRows(make_workers().__getitem__, model.common)
    engine = Watched(make_engine("serial", rows))
    play_round(method, engine, initialise_state(method), cohort=[0], seed=0)
    asked, worked = seen
    assert asked == (4 * gate, 4)
    assert worked == (4 * prompts // 3, 4 * (gate + prompts // 3) + 4)


def test_what_was_learnt_goes_back_into_a_folder(tmp_path):
    """The federation's result is an adapter that PEFT opens."""
    from tests.prompts.test_adapters import load

    tuned = make_taught()
    method = mops(make_task(make_prompted(tuned), 2))
    params = play(method, "serial")
    put_params(tuned, params)
    tuned.save_pretrained(tmp_path)
    batch = make_texts(1)
    again = make_prompted(load(make_base(), tmp_path))
    expected = method.model.logits(params, batch, {})
    assert_close(again.logits(again.params, batch, {}), expected, rtol=1e-4, atol=2e-5)


def test_usage_is_a_row_of_a_heat_map():
    model, workers = make_prompted(make_taught()), make_workers()
    map_WE = torch.stack([measure_usage(model, model.params, workers[w]) for w in range(3)])
    assert_close(map_WE.sum(1), torch.ones(3))
    assert map_WE.argmax(1).tolist() == [0, 1, 2]


def test_refusals():
    task = make_task(make_prompted(make_taught()), 2)
    for choice, words in [
        ({"k": 4}, "mops.k=4, but the model has 3 experts"),
        ({"merge": "loud"}, "mops.merge='loud'"),
        ({"gate_rate": -0.5}, "gate_rate=-0.5"),
        ({"gate_rate": float("nan")}, "gate_rate=nan"),
        ({"gate_rate": float("inf")}, "gate_rate=inf"),
        ({"least_usage": 1.5}, "mops.least_usage=1.5"),
        ({"merge": "holders", "least_usage": 0.1}, "read by merge='usage' alone"),
        ({"random": True}, "k=0 gives all; set k"),
    ]:
        with pytest.raises(ValueError, match=words):
            mops(task, **choice)
    from moiety import mlp, stream

    with pytest.raises(ValueError, match="make_prompted"):
        mops(Task(mlp((4, 3, 2), stream(0))))
    with pytest.raises(ValueError, match="needs a gate, injection='deep'"):
        make_prompted(tune(make_base(), gate_mode="none"))
