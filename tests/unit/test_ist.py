"""Independent subnets against hand examples, and against what they become at the edges."""

import re
from dataclasses import replace

import pytest
import torch

from moiety.core.axes import Part, take_piece
from moiety.core.rows import TableRows, take_all_rows
from moiety.core.state import Job, Reply, Share, State
from moiety.engine.serial import Serial
from moiety.methods.asyncdrop import asyncdrop
from moiety.methods.data_parallel import data_parallel
from moiety.methods.diloco import diloco
from moiety.methods.fedavg import fedavg
from moiety.methods.fjord import fjord
from moiety.methods.gist import gist
from moiety.methods.heterofl import heterofl
from moiety.methods.ist import ist, make_subnet_method
from moiety.methods.local_sgd import local_sgd
from moiety.methods.task import LocalTraining, Task
from moiety.models.mlp import mlp
from moiety.models.normed import normed
from moiety.ops.optim import SGD, Adam
from moiety.ops.trees import map_tree
from moiety.plan.count import count_perceptron, narrow_widths
from moiety.recipes.build import build_run
from moiety.recipes.fields import override_fields
from moiety.recipes.options import with_options
from moiety.recipes.record import Federation, Participation, Population
from moiety.rounds.commit import commit_replies
from moiety.rounds.synchronous import initialise_state, make_jobs, play_round
from moiety.split.own import Own

SEED = 5
PLAIN = LocalTraining(lr=0.1, momentum=0.0, batch=8, epochs=0, steps=4)


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def table(worker: int, size: int = 24) -> TableRows:
    x = torch.randn(size, 6, generator=rng(worker + 10))
    return TableRows({"x": x, "y": (x[:, 0] > 0).long() + (x[:, 1] > 0).long()}, torch.arange(size))


def task(workers: int, local: LocalTraining = PLAIN, model=None) -> Task:
    return Task(model or normed((6, 8, 8, 3), rng()), local, rounds=8, workers=workers, seed=SEED)


def run(method, workers: int, rounds: int, state=None, data=None):
    """Play rounds on ``Serial``; a new engine each time, as after a resume."""
    engine = Serial((data or {w: table(w) for w in range(workers)}).__getitem__)
    state = initialise_state(method) if state is None else state
    for _ in range(rounds):
        state = play_round(method, engine, state, list(range(workers)), SEED)
    return state


def equal(one, two, tolerance: float = 0.0):
    assert set(one) == set(two)
    for name, tensor in one.items():
        if tolerance:
            torch.testing.assert_close(tensor, two[name], rtol=tolerance, atol=tolerance)
        else:
            assert torch.equal(tensor, two[name]), name


def added(model, parts, amounts):
    """Let each worker add a number to all of its piece; give the change of the whole."""
    shares = {worker: Share(Part(axes)) for worker, axes in enumerate(parts)}
    method = replace(fedavg(Task(model)), split=Own(shares))
    state = initialise_state(method)
    replies = [
        Reply(job.worker, job.share, {n: t + amounts[job.worker] for n, t in job.piece.items()})
        for job in make_jobs(method, state, list(shares), {}, SEED)
    ]
    after = commit_replies(method, state, replies)
    return map_tree(torch.sub, after.params, state.params)


def test_hand_example_of_two_layers():
    """Widths (2, 4, 2), hands {0, 3} and {1, 2}; the output bias is held by both: 5.5."""
    parts = [{"h1": torch.tensor([0, 3])}, {"h1": torch.tensor([1, 2])}]
    change = added(mlp((2, 4, 2), rng()), parts, (1.0, 10.0))
    per_unit = torch.tensor([1.0, 10.0, 10.0, 1.0])
    near = {"rtol": 0, "atol": 2e-6}
    torch.testing.assert_close(change["layer1.w"], per_unit[:, None].expand(4, 2), **near)
    torch.testing.assert_close(change["layer1.b"], per_unit, **near)
    torch.testing.assert_close(change["layer2.w"], per_unit[None].expand(2, 4), **near)
    torch.testing.assert_close(change["layer2.b"], torch.full((2,), 5.5), **near)


def test_hand_example_of_three_layers():
    """Widths (2, 4, 4, 2), second hands {0, 1} and {2, 3}; eight middle entries are nobody's."""
    parts = [
        {"h1": torch.tensor([0, 3]), "h2": torch.tensor([0, 1])},
        {"h1": torch.tensor([1, 2]), "h2": torch.tensor([2, 3])},
    ]
    change = added(mlp((2, 4, 4, 2), rng()), parts, (1.0, 10.0))
    wanted = torch.tensor([[1.0, 0, 0, 1], [1.0, 0, 0, 1], [0, 10.0, 10, 0], [0, 10.0, 10, 0]])
    torch.testing.assert_close(change["layer2.w"], wanted, rtol=0, atol=2e-6)
    assert int((change["layer2.w"] == 0).sum()) == 8  # untouched, to the last bit


def test_one_worker_is_a_single_machine_bit_for_bit():
    alone = task(1, replace(PLAIN, momentum=0.9))
    equal(run(ist(alone), 1, 3).params, run(fedavg(alone), 1, 3).params)


def test_all_axes_shared_is_local_sgd_bit_for_bit():
    both = task(3)
    equal(
        run(make_subnet_method(both, "shared", {}), 3, 3).params, run(local_sgd(both), 3, 3).params
    )
    with pytest.raises(ValueError, match="nothing to assign"):
        ist(both, shared=("h*",))


def test_averaging_at_every_step_is_data_parallelism():
    """Plain SGD and H = 1: the mean of steps is the step of the mean."""
    three = task(3, replace(PLAIN, steps=1))
    one, two = run(local_sgd(three), 3, 6), run(data_parallel(three), 3, 6)
    equal(one.params, two.params, 1e-6)


@pytest.mark.parametrize(
    ("local", "rule"),
    [
        (replace(PLAIN, momentum=0.9, weight_decay=0.01), SGD(0.1, 0.9, weight_decay=0.01)),
        (replace(PLAIN, momentum=0.9, nesterov=True), SGD(0.1, 0.9, nesterov=True)),
        (replace(PLAIN, optimizer="adam", lr=0.001), Adam(0.001)),
    ],
    ids=["momentum", "nesterov", "adam"],
)
def test_data_parallelism_is_one_machine_with_the_joint_batch(local, rule):
    """Against a loop by hand; the gradient comes back from the workers' step with few ulps."""
    model = mlp((6, 8, 3), rng())
    three = task(3, local, model)
    found = run(data_parallel(three), 3, 6).params
    solve = data_parallel(three).solve
    params = dict(model.params)
    optimizer_state = {name: rule.start(t) for name, t in params.items()}
    for round_index in range(6):
        xs, ys = [], []
        for worker in range(3):
            plan = solve.plan(24, Job(SEED, round_index, worker, Share(), {}))
            batch = table(worker).take(plan.rows[0])
            xs.append(batch["x"])
            ys.append(batch["y"])
        leaves = {name: t.clone().requires_grad_() for name, t in params.items()}
        logits = model.logits(leaves, {"x": torch.cat(xs)}, {})
        loss = torch.nn.functional.cross_entropy(logits, torch.cat(ys))
        grads = torch.autograd.grad(loss, list(leaves.values()))
        for name, grad in zip(params, grads, strict=True):
            params[name], optimizer_state[name] = rule.update(
                params[name], grad, optimizer_state[name], 1.0
            )
    equal(found, params, 1e-5)


def test_small_gradients_survive_the_server_of_data_parallelism():
    """Adam divides by a gradient's size, so even one of 1e-7 must come back whole."""
    model = mlp((6, 3), rng())
    method = data_parallel(task(1, replace(PLAIN, optimizer="adam", lr=0.001), model))
    grad = 1e-7 * torch.randn(3, 6, generator=rng(1))
    state = initialise_state(method)
    (job,) = make_jobs(method, state, [0], {}, SEED)
    (rule,) = (rule for _, rule in method.solve.rules)  # type: ignore[attr-defined]
    moved = {**job.piece, "layer1.w": job.piece["layer1.w"] - rule.lr * grad}
    after, memory = method.server(state.params, moved, moved, {})
    found = memory["mean"]["layer1.w"] / 0.1  # the first mean is a tenth of the gradient
    torch.testing.assert_close(found, grad, rtol=1e-2, atol=2e-9)
    assert after["layer1.w"].shape == (3, 6)


def test_diloco_without_server_momentum_is_local_sgd_with_adamw():
    """Moments stay at the workers; the server's step of length 1 is the mean, to rounding."""
    three = task(3, replace(PLAIN, lr=0.01))
    kept = replace(three, local=replace(three.local, optimizer="adamw", optimizer_state="keep"))
    one, two = diloco(three, server_lr=1.0, server_momentum=0.0), local_sgd(kept)
    engines = [Serial({w: table(w) for w in range(3)}.__getitem__) for _ in range(2)]
    states = [initialise_state(one), initialise_state(two)]
    for _ in range(3):
        for place, method in enumerate((one, two)):
            states[place] = play_round(method, engines[place], states[place], [0, 1, 2], SEED)
    equal(states[0].params, states[1].params, 1e-6)


@pytest.mark.parametrize(
    ("local", "options", "said"),
    [
        (PLAIN, {}, "axis 'h1': an axis of 8 cannot be assigned to 9 workers; widen the model"),
        (
            replace(PLAIN, optimizer_state="keep"),
            {"assignment": "quota"},
            "but ist assigns .*'reset' or 'send'",
        ),
    ],
    ids=["narrow", "moments"],
)
def test_what_the_first_round_would_refuse_is_refused_at_once(local, options, said):
    with pytest.raises(ValueError, match=said):
        ist(task(9, local), **options)


SHARING = {"ist": ist, "heterofl": heterofl, "fjord": fjord, "asyncdrop": asyncdrop}


@pytest.mark.parametrize("name", SHARING)
@pytest.mark.parametrize("shared", [("nosuch",), ("h1", "nosuch"), ("nosuch", "h*")])
def test_a_pattern_that_fits_no_axis_is_refused(name, shared):
    said = r"shared: no axis fits 'nosuch': the model has the axes \['h1', 'h2'\]; name one"
    with pytest.raises(ValueError, match=said):
        SHARING[name](task(2), shared=shared)
    SHARING[name](task(2), shared=("*2",))


@pytest.mark.parametrize("drop", [float("nan"), 1.0, -0.1])
def test_a_share_to_drop_that_cannot_be_is_refused(drop):
    with pytest.raises(ValueError, match=rf"drop={drop} leaves nothing; .* in \[0, 1\)"):
        asyncdrop(task(2), drop=drop)


BAD = [
    ("lr", float("nan")), ("lr", float("inf")), ("lr", -0.1), ("weight_decay", float("nan")),
    ("weight_decay", -1.0), ("clip", float("nan")), ("clip", -1.0), ("warmup", float("nan")),
    ("warmup", -1.0), ("floor", float("nan")), ("floor", 2.0), ("window", -1), ("steps", -5),
    ("epochs", -1), ("momentum", float("nan")), ("momentum", -0.5), ("momentum", 1.0),
    ("betas", (0.9, float("nan"))), ("drops", (2.0,)), ("drops", (float("nan"),)),
    ("drops", (-0.5,)), ("optimizer_state", "foo"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "value"), BAD)
def test_local_training_that_cannot_be_is_refused_whatever_the_method(name, value):
    """Also what a method leaves unread: data_parallel makes one step of its own."""
    local = replace(PLAIN, **{name: value})
    with pytest.raises(ValueError, match=re.escape(f"local.{name}={value!r}")):
        data_parallel(task(2, local))


@pytest.mark.parametrize("name", ["optimizer", "lr_schedule"])
def test_words_that_diloco_leaves_unread_are_refused(name):
    with pytest.raises(
        ValueError, match=f"local.{name}='foo'; choose 'sgd|local.{name}='foo'; choose 'const"
    ):
        diloco(task(2, replace(PLAIN, **{name: "foo"})))


def test_a_deal_with_overlap_needs_no_unit_for_each_worker():
    ist(task(9), assignment="quota")
    ist(task(0))  # nobody knows how many there are


@pytest.mark.parametrize("kind", ["mlp", "normed"])
def test_a_network_without_a_graph_is_no_matter_of_gist(kind):
    model = {"mlp": mlp, "normed": normed}[kind]((6, 8, 3), rng())
    with pytest.raises(ValueError, match=r"\['h1'\]; use a graph network .*--methods ist"):
        gist(task(2, model=model))


def test_a_hand_of_all_units_is_the_full_network():
    model = mlp((6, 8, 8, 3), rng())
    part = Part({"h1": torch.arange(8), "h2": torch.arange(8)})
    batch = take_all_rows(table(0))
    piece = take_piece(model.params, model.axes, part)
    assert torch.equal(model.logits(piece, batch, {}), model.logits(model.params, batch, {}))


def masked(model, params, x, masks):
    """Compute the full network with units out of hand silenced."""
    for place, mask in enumerate(masks, 1):
        x = torch.relu(x @ params[f"layer{place}.w"].T + params[f"layer{place}.b"]) * mask
    last = len(masks) + 1
    return x @ params[f"layer{last}.w"].T + params[f"layer{last}.b"]


def test_the_gradient_of_a_piece_is_that_of_the_masked_whole():
    """Restricted to the hand, and without any scaling."""
    model, rows = mlp((6, 8, 7, 3), rng()), take_all_rows(table(0))
    part = Part({"h1": torch.tensor([0, 3, 5]), "h2": torch.tensor([1, 2, 6])})
    masks = []
    for axis, width in (("h1", 8), ("h2", 7)):
        mask = torch.zeros(width)
        mask[part.axes[axis]] = 1
        masks.append(mask)

    def slope(params, answer):
        leaves = {name: t.detach().requires_grad_() for name, t in params.items()}
        loss = torch.nn.functional.cross_entropy(answer(leaves), rows["y"])
        grads = torch.autograd.grad(loss, list(leaves.values()))
        return loss.detach(), dict(zip(leaves, grads, strict=True))

    piece = take_piece(model.params, model.axes, part)
    loss, grads = slope(piece, lambda p: model.logits(p, rows, {}))
    whole, full = slope(model.params, lambda p: masked(model, p, rows["x"], masks))
    torch.testing.assert_close(loss, whole)
    equal(grads, take_piece(full, model.axes, part), 1e-6)
    rest = {name: t.abs().sum() - take_piece(full, model.axes, part)[name].abs().sum()
            for name, t in full.items() if name != "layer3.b"}  # fmt: skip
    assert all(abs(float(left)) < 1e-5 for left in rest.values())  # nothing outside the hand


@pytest.mark.parametrize("num", [1, 2, 3, 4, 8])
def test_numbers_sent_are_those_of_the_formula(num):
    """P_s of 9.1, hand by hand, also where workers do not divide the width."""
    widths = (6, 10, 13, 3)
    method = ist(task(num, model=normed(widths, rng())))
    jobs = list(make_jobs(method, initialise_state(method), list(range(num)), {}, SEED))
    for job in jobs:
        held = job.share.part.axes
        mine = (6, len(held["h1"]), len(held["h2"]), 3)
        assert sum(t.numel() for t in job.piece.values()) == count_perceptron(mine)
        assert job.down_bytes == 4 * count_perceptron(mine)
    assert max(job.down_bytes for job in jobs) == 4 * count_perceptron(narrow_widths(widths, num))


@pytest.mark.parametrize("optimizer_state", ["reset", "send"])
def test_a_resume_in_the_middle_changes_nothing(optimizer_state):
    """Hands have addresses, not an order: 2 + 3 rounds are 5."""
    make = lambda: ist(task(4, replace(PLAIN, momentum=0.9, optimizer_state=optimizer_state)))  # noqa: E731
    straight = run(make(), 4, 5)
    half = run(make(), 4, 2)
    copied = State(
        {n: t.clone() for n, t in half.params.items()},
        optimizer_state={
            s: {n: t.clone() for n, t in ts.items()} for s, ts in half.optimizer_state.items()
        },
        round=half.round,
    )
    resumed = run(make(), 4, 3, copied)
    equal(resumed.params, straight.params)
    assert resumed.round == straight.round == 5


DIGITS = Federation(
    data="digits",
    net="normed",
    options=with_options(normed={"hidden": (64, 64)}),
    population=Population(
        scheme="iid", workers=8, unseen=0, anchors=0, public=0.0, validation=0.0, shared_test=True
    ),
    participation=Participation(size=8, fixed=True),
    local=replace(PLAIN, lr=0.1, batch=32, steps=10),
)


def accuracy(method, built, state) -> float:
    """Score the whole, calibrated as the method says, on the test rows."""
    params = method.calibrate(state.params, built.sample)
    (rows,) = built.groups["test"].values()
    batch = take_all_rows(rows)
    told = method.model.logits(params, batch, {}).argmax(-1)
    return float((told == batch["y"]).double().mean())


def play_digits(record: Federation, rounds: int = 30):
    built = build_run(record, "ist", 0)
    engine, state = Serial(built.open), initialise_state(built.method)
    for _ in range(rounds):
        state = play_round(built.method, engine, state, list(range(8)), 0)
    return built, state


def test_what_goes_wrong_without_norms_and_without_calibration():
    """Gate G2 in small: unnormalised, eight workers' units do not make a whole.

    Uncalibrated, the norms take the statistics of whatever batch is scored: the answer for a row
    hangs on its neighbours, and one row alone has none.
    """
    built, state = play_digits(DIGITS)
    good = accuracy(built.method, built, state)
    bare, bare_state = play_digits(override_fields(DIGITS, {"normed": {"norm": "none"}}))
    assert good > 0.85
    assert good - accuracy(bare.method, bare, bare_state) > 0.3

    fixed = built.method.calibrate(state.params, built.sample)
    (rows,) = built.groups["test"].values()
    some, fewer = rows.take(torch.arange(40)), rows.take(torch.arange(20))
    score = built.method.model.logits
    torch.testing.assert_close(score(fixed, some, {})[:20], score(fixed, fewer, {}))
    loose = ist(Task(built.method.model, DIGITS.local, workers=8), calibrate=False).calibrate(  # type: ignore[arg-type]
        state.params, built.sample
    )
    apart = score(loose, some, {})[:20] - score(loose, fewer, {})
    assert float(apart.abs().max()) > 0.1
    with pytest.raises(ValueError, match="more than 1 value per channel"):
        score(loose, rows.take(torch.arange(1)), {})


def test_statistics_are_those_of_the_whole_network():
    """By hand, layer by layer: mean and biased variance of what each norm is given."""
    model = normed((6, 5, 4, 3), rng())
    rows = table(3)
    fixed = model.calibrate(model.params, rows, {})
    h = rows.table["x"]
    for place in (1, 2, 3):
        z = h @ model.params[f"layer{place}.w"].T
        torch.testing.assert_close(fixed[f"norm{place}.mean"], z.mean(0))
        torch.testing.assert_close(fixed[f"norm{place}.var"], ((z - z.mean(0)) ** 2).mean(0))
        z = (z - z.mean(0)) / (z.var(0, correction=0) + 1e-5).sqrt()
        if place < 3:
            h = torch.relu(z * model.params[f"norm{place}.g"] + model.params[f"norm{place}.s"])
    told = model.logits(fixed, {"x": rows.table["x"]}, {})
    torch.testing.assert_close(told, z, rtol=1e-4, atol=1e-5)
    assert set(model.params) == {n for n in fixed if not n.endswith((".mean", ".var"))}
