"""Convolutional networks that are cut: residual blocks, filters, hidden units."""

from dataclasses import replace

import pytest
import torch

from moiety.core.axes import Part, add_piece, read_axis_lengths, take_piece
from moiety.core.rows import TableRows
from moiety.core.state import State, count_bytes
from moiety.engine.serial import Serial
from moiety.methods.local_sgd import local_sgd
from moiety.methods.loft import Prune, loft, make_loft_stages
from moiety.methods.resist import Scatter, resist
from moiety.methods.task import LocalTraining, Task
from moiety.models.residual import DEPTH, FILTERS, ResidualForm
from moiety.models.resnet import resnet, take_prefixed
from moiety.models.vgg import vgg
from moiety.ops.filters import compute_filter_norms, measure_ticket_distance, select_filters
from moiety.rounds.synchronous import make_jobs, play_round
from moiety.serve.config import rebuild_model
from moiety.tasks.augment import CroppedLosses, FlippedLosses
from moiety.tasks.classes import Classes
from moiety.tasks.losses import cross_entropy
from moiety.tasks.objectives import RowLosses

SMALL = ResidualForm((2, 1, 5, 2), (3, 4, 5, 6))
SUBSET = ResidualForm((1, 1, 13, 1), (8, 16, 32, 64))


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def images(count: int = 6, size: int = 8) -> dict[str, torch.Tensor]:
    x = torch.randn(count, 3, size, size, generator=rng(1), dtype=torch.double)
    return {"x": x, "y": torch.arange(count) % 4}


def rows(count: int = 64) -> TableRows:
    return TableRows(images(count), torch.arange(count))


def double(model):
    return replace(model, params={name: t.double() for name, t in model.params.items()})


def small(cut: str = DEPTH, statistics: str = "recompute"):
    return double(resnet((3, 8, 8), 4, rng(), SMALL, cut=cut, statistics=statistics))


def net():
    return double(vgg((3, 8, 8), 4, rng(), filters=((4, 5), (6,)), hidden=(7, 5)))


def count(params) -> int:
    return sum(tensor.numel() for tensor in params.values())


@pytest.mark.parametrize(("classes", "total"), [(100, 41_396_900), (10, 41_350_730)])
def test_resnet101_has_the_published_size(classes, total):
    model = resnet((3, 32, 32), classes, rng())
    deep = take_prefixed(model.params, "s3.deep.")
    assert count(model.params) == total
    assert count(deep) == 22 * 1_180_672
    assert count(model.params) - count(deep) == total - 22 * 1_180_672
    assert read_axis_lengths(model.params, model.axes)[DEPTH] == 22


@pytest.mark.parametrize(
    ("workers", "local", "dealt"), [(2, 0.6624, 0.4546), (4, 1.3247, 0.7202), (8, 2.6494, 1.2893)]
)
def test_resnet101_sends_what_the_paper_says(workers, local, dealt):
    """Table of traffic, GB a round in all, with hands of max(ceil(22 / n), 4) blocks."""
    model = resnet((3, 32, 32), 100, rng())
    task = Task(model, workers=workers)
    for method, asked in ((resist(task), dealt), (local_sgd(task), local)):
        jobs = make_jobs(method, State(model.params), range(workers), {}, 0)
        assert round(2 * sum(job.down_bytes for job in jobs) / 1e9, 4) == asked


def test_the_small_network_has_the_sizes_of_its_recipe():
    for cut in (DEPTH, FILTERS):
        assert count(resnet((3, 16, 16), 10, rng(), SUBSET, cut=cut).params) == 300_498
    model = resnet((3, 16, 16), 10, rng(), SUBSET)
    assert count(take_prefixed(model.params, "s3.deep.")) == 12 * 18_560
    assert 300_498 - 12 * 18_560 == 77_778


@pytest.mark.parametrize(
    ("workers", "least", "asked"), [(2, 1, 3_026_208), (4, 1, 4_270_656), (4, 6, 6_052_416)]
)
def test_bytes_of_resist(workers, least, asked):
    model = resnet((3, 16, 16), 10, rng(), SUBSET)
    method = resist(Task(model, workers=workers), least=least)
    jobs = make_jobs(method, State(model.params), range(workers), {}, 0)
    assert 2 * sum(job.down_bytes for job in jobs) == asked


@pytest.mark.parametrize("workers", [2, 4])
def test_bytes_of_loft(workers):
    """1 - (1 - 1/n) P_dealt / P of what whole models cost, exactly."""
    model = resnet((3, 16, 16), 10, rng(), SUBSET, cut=FILTERS)
    dealt = 12 * (2 * 9 * 32 * 32 + 2 * 32)
    jobs = list(make_jobs(loft(Task(model, workers=workers)), State(model.params),
                         range(workers), {}, 0))  # fmt: skip
    share = sum(job.down_bytes for job in jobs) / (4 * workers * 300_498)
    assert share == pytest.approx(1 - (1 - 1 / workers) * dealt / 300_498, abs=1e-12)


def test_both_cuts_are_the_same_network():
    """The same numbers under the names of the other cut give the same output."""
    deep, wide = small(DEPTH), small(FILTERS)
    params = dict(wide.params)
    for name in params:
        n, _, rest = name.partition(".")
        place, _, rest = rest.partition(".")
        if place.startswith("b") and n != "head":
            params[name] = deep.params[f"{n}.deep.{rest}"][int(place[1:])]
        elif place == "down":
            params[name] = deep.params[name][0]
        else:
            params[name] = deep.params[name]
    batch = images()
    torch.testing.assert_close(
        wide.logits(params, batch, {}), deep.logits(deep.params, batch, {}), rtol=1e-9, atol=1e-9
    )


def without(model, kept):
    """Take a piece, and the whole whose blocks that are left out add nothing."""
    part = Part({DEPTH: torch.tensor(kept)})
    full = dict(model.params)
    mask = torch.zeros(4, dtype=torch.double)
    mask[kept] = 1
    full["s3.deep.conv2.w"] = full["s3.deep.conv2.w"] * mask[:, None, None, None, None]
    return take_piece(model.params, model.axes, part), full


@pytest.mark.parametrize("kept", [[0], [3], [1, 2], [0, 1, 2, 3]])
def test_a_block_that_is_not_there_passes_its_input(kept):
    model = small()
    piece, full = without(model, kept)
    torch.testing.assert_close(
        model.logits(piece, images(), {}), model.logits(full, images(), {}), rtol=1e-9, atol=1e-9
    )


def test_branches_scaled_by_nothing_are_not_there():
    model, part = small(), Part({DEPTH: torch.zeros(0, dtype=torch.long)})
    made = model.calibrate(model.params, None, {DEPTH: 0.0})
    none = take_piece(model.params, model.axes, part)
    torch.testing.assert_close(model.logits(made, images(), {}), model.logits(none, images(), {}))
    assert set(made) == set(model.params)


@pytest.mark.parametrize(
    "model", [small(DEPTH), small(FILTERS), net()], ids=[DEPTH, FILTERS, "vgg"]
)
def test_statistics_fixed_on_rows_are_those_of_the_rows(model):
    """On these very rows nothing changes; on one row alone, only fixed statistics make sense."""
    table = rows()
    batch = table.take(torch.arange(64))
    made = model.calibrate(model.params, table, {})
    whole = model.logits(model.params, batch, {})
    torch.testing.assert_close(model.logits(made, batch, {}), whole, rtol=1e-9, atol=1e-9)
    one = {"x": batch["x"][:2]}
    torch.testing.assert_close(model.logits(made, one, {}), whole[:2], rtol=1e-9, atol=1e-9)
    assert float((model.logits(model.params, one, {}) - whole[:2]).abs().max()) > 1e-2
    raw = replace(model, statistics="batch")
    assert set(raw.calibrate(raw.params, table, {})) == set(model.params)


def test_statistics_belong_to_the_scaled_network():
    """Calibrating scales first: fixed on the unscaled whole they would be those of another net."""
    model, table, held = small(), rows(), {DEPTH: 0.25}
    made = model.calibrate(model.params, table, held)
    scaled = model.scaled(model.params, held)
    batch = table.take(torch.arange(64))
    wanted = model.logits(scaled, batch, {})
    torch.testing.assert_close(model.logits(made, batch, {}), wanted, rtol=1e-9, atol=1e-9)
    late = {**model.calibrate(model.params, table, {}), **scaled}
    assert float((model.logits(late, batch, {}) - wanted).abs().max()) > 1e-2


def test_blocks_that_learned_apart_overshoot_together_unless_scaled():
    """Each hand alone learned the whole correction: both at once make it twice, halves once."""
    model = small()
    params = dict(model.params)
    names = [name for name in params if name.startswith("s3.deep.")]
    params.update({name: params[name][:1].repeat_interleave(2, 0) for name in names})
    pair = replace(model, params=params)
    fixed = model.calibrate(params, rows(), {})
    lone = {name: t[:1] if name.startswith("s3.deep.") else t for name, t in fixed.items()}
    alone = pair.logits(lone, images(), {})
    apart = [
        float((pair.logits(pair.scaled(fixed, {DEPTH: c}), images(), {}) - alone).abs().mean())
        for c in (1.0, 0.5)
    ]
    assert apart[1] < 0.5 * apart[0]


def gradients(model, params, batch):
    trained = [name for name in params if not name.endswith((".mean", ".var"))]
    leaves = {n: t.clone().requires_grad_(n in trained) for n, t in params.items()}
    loss = cross_entropy(model.forward(leaves, batch, {})[0], batch["y"]).sum()
    return dict(zip(trained, torch.autograd.grad(loss, [leaves[n] for n in trained]), strict=True))


def statistics_axes(model, params):
    """Lay fixed statistics on the axes of their norms' scales."""
    axes = dict(model.axes)
    for name in params:
        for end in (".mean", ".var"):
            if name.endswith(end) and name.removesuffix(end) + ".g" in axes:
                axes[name] = axes[name.removesuffix(end) + ".g"]
    return axes


PARTS = {
    "depth": (small(DEPTH), {DEPTH: [0, 2]}, ("conv2.w",)),
    "filters": (small(FILTERS), {"filters3.1": [0, 3], "filters4.1": [1, 2, 5]}, ("conv2.w",)),
    "vgg": (net(), {"c1": [0, 2], "c2": [1, 3, 4], "c3": [5], "h1": [0, 6], "h2": [1, 2]}, ()),
}


@pytest.mark.parametrize("name", PARTS)
def test_the_gradient_of_a_piece_is_that_of_the_masked_whole(name):
    """With statistics fixed, units masked at their output are as if they were not there."""
    model, kept, _ = PARTS[name]
    params = model.calibrate(model.params, rows(), {})
    axes, part = statistics_axes(model, params), Part({a: torch.tensor(i) for a, i in kept.items()})
    zeros = {n: torch.zeros_like(t) for n, t in params.items()}
    add_piece(
        zeros,
        axes,
        part,
        {n: torch.ones_like(t) for n, t in take_piece(params, axes, part).items()},
    )
    silent = {n: t * zeros[n] if not n.endswith(".var") else t for n, t in params.items()}
    piece = take_piece(params, axes, part)
    torch.testing.assert_close(
        model.logits(piece, images(), {}), model.logits(silent, images(), {}), rtol=1e-9, atol=1e-9
    )
    full = gradients(model, silent, images())
    found = gradients(model, piece, images())
    wanted = take_piece(full, axes, part)
    for one in found:
        torch.testing.assert_close(found[one], wanted[one], rtol=1e-7, atol=1e-9, msg=one)


@pytest.mark.parametrize("name", PARTS)
def test_cutting_and_putting_back(name):
    model, kept, _ = PARTS[name]
    part = Part({axis: torch.tensor(ids) for axis, ids in kept.items()})
    rest = {
        axis: torch.tensor([i for i in range(size) if i not in kept.get(axis, range(size))])
        for axis, size in read_axis_lengths(model.params, model.axes).items()
    }
    piece = take_piece(model.params, model.axes, part)
    total = {n: torch.zeros_like(t) for n, t in model.params.items()}
    add_piece(total, model.axes, part, piece)
    back = take_piece(total, model.axes, part)
    assert all(torch.equal(back[n], piece[n]) for n in piece)
    assert sum(len(ids) for ids in rest.values()) > 0
    assert model.logits(piece, images(), {}).shape == (6, 4)


@pytest.mark.parametrize(
    "model", [small(DEPTH), small(FILTERS), net()], ids=[DEPTH, FILTERS, "vgg"]
)
def test_a_network_is_built_again_whole_or_in_part(model):
    size = next(iter(read_axis_lengths(model.params, model.axes).items()))
    part = Part({size[0]: torch.arange(max(1, size[1] - 1))})
    for made in (model, replace(model, params=take_piece(model.params, model.axes, part))):
        again = rebuild_model(made.config())
        assert again.axes == made.axes
        shapes = {n: t.shape for n, t in again.params.items()}
        assert shapes == {n: t.shape for n, t in made.params.items()}
        assert made.redraw(rng(3)).keys() == made.params.keys()


def test_wrong_shapes_are_refused():
    with pytest.raises(ValueError, match="positive number of both"):
        ResidualForm((1, 2), (3,))
    with pytest.raises(ValueError, match="cut='width'"):
        resnet((3, 8, 8), 4, rng(), SMALL, cut="width")
    with pytest.raises(ValueError, match="statistics='running'"):
        resnet((3, 8, 8), 4, rng(), SMALL, statistics="running")
    with pytest.raises(ValueError, match="too small for 3 poolings"):
        vgg((3, 4, 4), 4, rng(), filters=((2,), (2,), (2,)))
    with pytest.raises(ValueError, match="no axis fits"):
        resist(Task(small(FILTERS)))
    with pytest.raises(ValueError, match=r"assigned: no axis fits 'nosuch': .*\['depth'"):
        resist(Task(small(), workers=2), assigned=("depth", "nosuch"))
    with pytest.raises(ValueError, match="no filters to assign"):
        loft(Task(small()))
    with pytest.raises(ValueError, match="prune a share below 1"):
        loft(Task(small(FILTERS)), prune=0.5)
    with pytest.raises(ValueError, match=r"scale=2\.0"):
        resist(Task(small()), scale=2.0)
    with pytest.raises(ValueError, match="leave none before pruning"):
        make_loft_stages(Task(small(FILTERS), rounds=3), prune=0.5, tune=3)


def test_hands_of_blocks():
    """max(ceil(D / n), least) blocks each, every block held; strided ones by one worker alone."""
    model = small()
    task = Task(model, workers=3)
    jobs = list(make_jobs(resist(task, least=3), State(model.params), range(3), {}, 0))
    hands = [job.share.part.axes[DEPTH].tolist() for job in jobs]
    assert [len(hand) for hand in hands] == [3, 3, 3]
    assert {block for hand in hands for block in hand} == {0, 1, 2, 3}
    every = resist(task, least=1, assigned=("depth*", "strided*"))
    jobs = list(make_jobs(every, State(model.params), range(3), {}, 0))
    for axis in ("strided2", "strided3", "strided4"):
        assert sum(len(job.share.part.axes[axis]) for job in jobs) == 1
    assert [len(hand) for hand in Scatter()(5, 3, rng())] in ([2, 2, 1], [2, 1, 2], [1, 2, 2])


def test_flips_are_drawn_by_row_from_the_seed_of_the_step():
    losses = FlippedLosses(
        RowLosses(Classes(), lambda params, batch, kept: (batch["x"][:, 0, 0], {}))
    )
    x = torch.tensor([[0.0, 1.0]]).repeat(200, 1)[:, None, None]
    batch = {"x": x, "y": torch.zeros(200, dtype=torch.long)}

    def flipped(seed: int) -> torch.Tensor:
        return losses({}, {**batch, "seed": torch.tensor(seed)}, {})[0] < 0.5

    assert torch.equal(flipped(3), flipped(3))
    assert not torch.equal(flipped(3), flipped(4))
    assert 70 < int(flipped(3).sum()) < 130
    assert not (losses({}, batch, {})[0] < 0.5).any()
    with pytest.raises(ValueError, match=r"local.flips changes images, but rows have shape \(3,\)"):
        losses({}, {"x": torch.zeros(2, 3), "y": torch.zeros(2)}, {})


def test_crops_are_windows_of_padded_images_drawn_by_row_from_the_seed():
    """Held against a loop over slices; each place is as likely as any other."""
    seen = []

    def inner(params, batch, kept):
        seen.append(batch["x"])
        return batch["x"], {}

    images = torch.arange(1.0, 400 * 2 * 3 * 4 + 1).reshape(400, 2, 3, 4)
    for seed in (3, 3, 4):
        CroppedLosses(inner, 1)({}, {"x": images, "seed": torch.tensor(seed)}, {})
    CroppedLosses(inner, 1)({}, {"x": images}, {})
    assert torch.equal(seen[0], seen[1])
    assert not torch.equal(seen[0], seen[2])
    assert torch.equal(seen[3], images)  # nothing is moved where nothing is trained
    counts = torch.zeros(3, 3)
    for image, cropped in zip(images, seen[0], strict=True):
        wide = torch.zeros(2, 5, 6)
        wide[:, 1:4, 1:5] = image
        places = [
            (top, left)
            for top in range(3)
            for left in range(3)
            if torch.equal(wide[:, top : top + 3, left : left + 4], cropped)
        ]
        assert len(places) == 1
        counts[places[0]] += 1
    assert (counts - 400 / 9).abs().max() < 25


@pytest.mark.parametrize("change", [{"flips": True}, {"crops": 2}])
def test_augmentation_makes_a_solver_noisy_and_is_of_images_alone(change):
    model = resnet((3, 8, 8), 4, rng(), SMALL)
    local = LocalTraining(epochs=0, steps=2, batch=8, lr_schedule="steps", drops=(0.5,), **change)
    with pytest.raises(ValueError, match=r"local.\w+ changes images, but rows have shape \(64,\)"):
        Task(model, local, shape=(64,))
    solve = Task(model, local, rounds=10).make_solver()
    assert not solve.stackable
    assert [solve.lr_schedule(at) for at in (4.9, 5.0)] == [1.0, 0.1]


def test_the_distance_of_tickets_by_hand():
    """Reference order 0, 1, 2; other order 2, 0, 1: ranks 2, 3, 1."""
    reference, other = torch.tensor([3.0, 2.0, 1.0]), torch.tensor([2.0, 1.0, 3.0])
    log = torch.log(torch.tensor([2.0, 3.0, 2.0 / 3, 3.0]))
    wanted = log[0] + (log[1] - log[0]) / 2 + log[3] / 3
    assert measure_ticket_distance(reference, other) == pytest.approx(float(wanted))
    assert measure_ticket_distance(reference, reference) == 0
    kept = log[0] + (log[1] - log[0]) / 2  # of two kept, filter 1 is missing: rank 3
    assert measure_ticket_distance(reference, other, 2) == pytest.approx(float(kept))


def test_pruning_drops_the_small_filters_and_what_belongs_to_them():
    model = small(FILTERS)
    task = Task(model, LocalTraining(epochs=0, steps=2, batch=8), rounds=3, workers=2)
    first, second = make_loft_stages(task, prune=0.5, tune=1)
    assert [first.rounds, second.rounds] == [2, 1]
    weight = model.params["s3.b1.conv1.w"]
    kept = select_filters(compute_filter_norms(weight), 3)
    assert float(compute_filter_norms(weight)[kept].min()) > float(
        compute_filter_norms(weight)[
            select_filters(compute_filter_norms(weight), 2, small=True)
        ].max()
    )
    cut = second.enter(State(model.params))
    assert torch.equal(cut.params["s3.b1.conv1.w"], weight[kept])
    assert torch.equal(cut.params["s3.b1.conv2.w"], model.params["s3.b1.conv2.w"][:, kept])
    assert torch.equal(cut.params["s3.b1.norm2.g"], model.params["s3.b1.norm2.g"][kept])
    assert cut.params["s1.b0.conv1.w"].shape == model.params["s1.b0.conv1.w"].shape
    shapes = {n: t.shape for n, t in second.method.model.params.items()}
    assert shapes == {n: t.shape for n, t in cut.params.items()}
    small_ones = Prune(task, 0.5, small=True)(State(model.params))
    assert count_bytes(small_ones.params) == count_bytes(cut.params)
    engine = Serial(lambda _: rows())
    after = play_round(second.method, engine, cut, [0, 1], 0)
    assert not torch.equal(after.params["s3.b1.conv1.w"], cut.params["s3.b1.conv1.w"])


@pytest.mark.parametrize(("cut", "method"), [(DEPTH, resist), (FILTERS, loft)])
def test_scaling_needs_to_know_how_many_workers_there_are(cut, method):
    """Without, the share would be taken for all, and the whole be wrong without a word."""
    model = small(cut)
    with pytest.raises(ValueError, match=r"Task.workers is 0; say how many work in a round"):
        method(Task(model))
    method(Task(model, workers=2))
    method(Task(model), scale=0.5)
