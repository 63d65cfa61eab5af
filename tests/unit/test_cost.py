"""The cost model against the tables of the literature, and against rounds really played."""

from dataclasses import replace

import pytest
import torch

from moiety.core.rows import TableRows
from moiety.core.state import Job, Share, State
from moiety.methods.ist import ist
from moiety.methods.local_sgd import local_sgd
from moiety.methods.task import LocalTraining, Task
from moiety.models.cnn import cnn
from moiety.models.mlp import mlp
from moiety.models.normed import normed
from moiety.plan.abstract import abstract_params
from moiety.plan.count import (
    Link,
    count_central_traffic,
    count_matrix_weights,
    count_partly_shared,
    count_perceptron,
    count_perceptron_activations,
    count_perceptron_flops,
    count_ring_traffic,
    count_sage,
    count_server_traffic,
    count_step_memory,
    count_transformer_block,
    interpolate_statistical_cost,
    narrow_widths,
)
from moiety.plan.profile import profile_job
from moiety.rounds.synchronous import initialise_state, make_jobs

SPEECH2, SPEECH3 = (4096, 4096, 35), (4096, 8192, 8192, 35)
MNIST = (784, 512, 512, 10)


@pytest.mark.parametrize(
    ("widths", "whole", "pieces"),
    [
        (MNIST, 670_720, (269_824, 118_528, 55_168)),
        (SPEECH2, 16_928_768, (8_464_384, 4_232_192, 2_116_096)),
        (SPEECH3, 100_982_784, (33_714_176, 12_662_784, 5_282_816)),
        ((135_909, 512, 670_091), 412_673_024, (206_336_512, 103_168_256, 51_584_128)),
        ((135_909, 2560, 670_091), 2_063_365_120, (1_031_682_560, 515_841_280, 257_920_640)),
    ],
)
def test_numbers_of_perceptrons(widths, whole, pieces):
    """The table of 9.1, whole and for 2, 4 and 8 workers."""
    assert count_perceptron(widths) == whole
    assert tuple(count_perceptron(narrow_widths(widths, num)) for num in (2, 4, 8)) == pieces
    for num in (2, 4, 8):
        assert 1 / num**2 <= count_perceptron(narrow_widths(widths, num)) / whole <= 1 / num


def test_output_biases_are_in_every_piece():
    """9.1: with an output bias, N_T in P and in P_s."""
    assert count_perceptron((4, 6, 3), out_bias=True) - count_perceptron((4, 6, 3)) == 3
    assert narrow_widths((4, 7, 3), 2) == (4, 4, 3)


@pytest.mark.parametrize(
    ("hidden", "num", "count"),
    [(4096, 1, 1_208_367), (4096, 2, 604_207), (4096, 4, 302_127), (4096, 8, 151_087),
     (32_768, 1, 9_666_607), (32_768, 8, 1_208_367)],
)  # fmt: skip
def test_numbers_of_graph_nets(hidden, num, count):
    assert count_sage(100, hidden, 47, 1, num) == count


def test_numbers_of_a_graph_net_of_two_hidden_layers_by_hand():
    """4 -> 6 -> 6 -> 3, halved: 2*4*3 + 2*3*3 + 2*3*3 + 2*3 + 3."""
    assert count_sage(4, 6, 3, 2, 2) == 24 + 18 + 18 + 6 + 3


def test_numbers_of_transformers():
    """GPT-2 small: 12 blocks of 768, of which norms, bo and b2 are shared, as embeddings are."""
    whole, width, layers = 124_439_808, 768, 12
    embeddings = (50_257 + 1024) * width
    for first_and_last, ratios, bare in (
        (False, (0.658, 0.488, 0.402), (0.500, 0.251, 0.126)),
        (True, (0.715, 0.573, 0.502), (0.584, 0.375, 0.271)),
    ):
        dealt = (layers - 2 * first_and_last) * count_transformer_block(width)
        for num, ratio, without in zip((2, 4, 8), ratios, bare, strict=True):
            size = count_partly_shared(whole - dealt, dealt, 1 / num)
            assert size / whole == pytest.approx(ratio, abs=1e-3)
            assert (size - embeddings) / (whole - embeddings) == pytest.approx(without, abs=1e-3)


def test_numbers_of_the_small_residual_net():
    """8.3: shared 77,778, 12 dealt blocks of 18,560; bytes of a round in all."""
    assert count_partly_shared(77_778, 12 * 18_560, 1) == 300_498
    for num, held, total in ((2, 6, 3_026_208), (4, 3, 4_270_656), (4, 6, 6_052_416)):
        piece = int(4 * count_partly_shared(77_778, 12 * 18_560, held / 12))
        assert count_server_traffic([piece] * num).total == total
    assert count_server_traffic([4 * 300_498] * 2).total == 4_807_968


def test_operations_of_speech3():
    """9.2: 68.97 GFLOP whole, 21.60, 7.58 and 2.98 for 2, 4 and 8 workers; B = 128.

    The table takes all of P_s; we count matrices alone, 6 B per scale and shift of a norm less.
    """
    found = []
    for num in (1, 2, 4, 8):
        mine = narrow_widths(SPEECH3, num)
        norms = count_perceptron(mine) - count_matrix_weights(mine)
        found.append((count_perceptron_flops(mine, 128) + 6 * 128 * norms) / 1e9)
    assert found == pytest.approx([68.97, 21.60, 7.58, 2.98], abs=6e-3)


def test_the_cost_figure_of_the_paper():
    """4.1, its own convention: 4 FLOPs per weight and row, inflow only, all workers together."""
    widths, rows, steps = (1000, 4000, 4000, 4000, 200), 512, 10
    assert 4 * rows * count_matrix_weights(widths) / 1e9 == pytest.approx(75.37, abs=5e-3)
    for num, gflop, mbyte, all_mbyte in (
        (4, 26.21, 5.12, 588.8), (8, 18.02, 3.52, 1177.6), (16, 13.93, 2.72, 2355.2),
    ):  # fmt: skip
        piece = count_matrix_weights(narrow_widths(widths, num))
        assert 4 * rows * num * piece / 1e9 == pytest.approx(gflop, abs=5e-3)
        assert 4 * num * piece / steps / 1e6 == pytest.approx(mbyte, abs=5e-3)
        assert 4 * num * count_matrix_weights(widths) / 1e6 == pytest.approx(all_mbyte, abs=5e-2)


TRAFFIC = {
    (SPEECH2, 2): (1354, 67.7, 33.9, 33.9, 33.9),
    (SPEECH2, 4): (2031, 101.6, 16.9, 50.8, 25.4),
    (SPEECH2, 8): (2370, 118.5, 8.5, 59.3, 14.8),
    (SPEECH3, 2): (8079, 403.9, 134.9, 134.9, 134.9),
    (SPEECH3, 4): (12118, 605.9, 50.7, 152.0, 76.0),
    (SPEECH3, 8): (14138, 706.9, 21.1, 147.9, 37.0),
}


@pytest.mark.parametrize(("widths", "num"), list(TRAFFIC))
def test_megabytes_of_a_round(widths, num):
    """The table of 9.4: out, with H = 20 rounds of data parallelism for one of the others."""
    whole, piece = 4 * count_perceptron(widths), 4 * count_perceptron(narrow_widths(widths, num))
    found = (
        20 * count_ring_traffic([whole] * num).out,
        count_ring_traffic([whole] * num).out,
        count_central_traffic([piece] * num).out,
        count_central_traffic([piece] * num).busiest,
        count_ring_traffic([piece] * num).out,
    )
    digits = (0, 1, 1, 1, 1)
    told = tuple(round(size / 1e6, place) for size, place in zip(found, digits, strict=True))
    assert told == pytest.approx(TRAFFIC[widths, num], abs=0.051)
    assert (
        count_central_traffic([piece] * num).total
        == count_ring_traffic([piece] * num).total
        == 2 * (num - 1) * piece
    )
    assert count_server_traffic([piece] * num).total == 2 * num * piece


def test_one_worker_sends_itself_nothing():
    for count in (count_central_traffic, count_ring_traffic):
        assert count([100]) == count([100], [40])
        assert count([100]).total == 0
    assert Link(8.0, 3.0).seconds(0) == 0
    assert Link(8.0, 3.0).seconds(1e6) == pytest.approx(1.006)


def test_unlike_pieces_count_as_they_are():
    found = count_server_traffic([10, 30], [1, 2])
    assert (found.into, found.out, found.total, found.busiest) == (30, 2, 43, 40)
    assert found.waited == 43  # down first, then up
    assert count_ring_traffic([10, 30], [20, 20]).total == 2 * 20


@pytest.mark.parametrize("link", [(0.0, 1.0), (-5.0, 1.0), (float("nan"), 1.0), (10.0, -1.0)])
def test_links_that_cannot_be(link):
    with pytest.raises(ValueError, match="a rate above 0"):
        Link(*link)


def test_statistical_cost_is_the_measured_one_where_it_was_measured():
    assert interpolate_statistical_cost(4, 20) == (2.0, 4.0)
    assert interpolate_statistical_cost(8, 80) == pytest.approx((1.5, 5.3))
    assert interpolate_statistical_cost(1, 40) == (1.0, 1.0)
    assert interpolate_statistical_cost(4, 40) == pytest.approx((2.0**0.5, (4.0 * 3.7) ** 0.5))
    assert interpolate_statistical_cost(16, 20)[1] == pytest.approx(12.0 * 12.0 / 4.0)


@pytest.mark.parametrize(("steps", "nearest"), [(1, 20), (19, 20), (81, 80), (10_000, 80)])
def test_statistical_cost_beyond_what_was_measured_is_the_nearest(steps, nearest):
    assert interpolate_statistical_cost(4, steps) == interpolate_statistical_cost(4, nearest)


def test_memory_by_hand():
    """(2 + s) b P_s + b B (N_0 + a sum N_l/n + N_T): 5-3-2, 4 rows, momentum, a = 2."""
    size, kept = count_perceptron((5, 3, 2)), count_perceptron_activations((5, 3, 2), 4, 2)
    assert (size, kept) == (27, 4 * (6 + 2))
    wanted = 4 * 3 * 27 + 4 * 4 * (5 + 2 * 3 + 2)
    assert count_step_memory(size, 1, kept, inputs=4 * 4 * 5) == wanted


STEP = LocalTraining(lr=0.1, momentum=0.0, batch=16, epochs=0, steps=5)


def walked(method, num: int, shape, size: int = 40):
    """Rehearse the jobs of a first round; the model has shapes alone."""
    first = abstract_params(method.model.params)
    state = State(first, optimizer_state=method.solve.first_optimizer_state(first))
    row = {"x": torch.zeros(1, *shape), "y": torch.zeros(1, dtype=torch.long)}
    jobs = make_jobs(replace(method, first=first), state, list(range(num)), {}, 0)
    rows = TableRows(row, torch.zeros(size, dtype=torch.long))
    return [profile_job(method.solve, job, rows) for job in jobs]


@pytest.mark.parametrize("num", [1, 2, 4, 5])
def test_operations_counted_are_those_of_the_formula(num):
    """6 B P_s - 2 B N_0 N_1/n, over batches of 16, 16 and 8 rows in turn; norms left out."""
    widths = (20, 12, 8, 3)
    method = ist(Task(normed(widths, torch.Generator()), STEP, workers=num))
    efforts = walked(method, num, (20,))
    mine = narrow_widths(widths, num)
    most = max(efforts, key=lambda effort: effort.flops)
    assert most.step_flops == count_perceptron_flops(mine, 16)
    assert most.flops == sum(count_perceptron_flops(mine, rows) for rows in (16, 16, 8, 16, 16))
    assert most.piece_bytes == most.down_bytes == most.up_bytes == 4 * count_perceptron(mine)


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_memory_rehearsed_is_the_formula(momentum):
    """With a = 2, for torch's norm and ReLU share what they keep; the rest are statistics."""
    widths = (20, 12, 8, 3)
    method = ist(Task(normed(widths, torch.Generator()), replace(STEP, momentum=momentum),
                      workers=2))  # fmt: skip
    (found, _) = walked(method, 2, (20,))
    mine = narrow_widths(widths, 2)
    kept = 4 * count_perceptron_activations(mine, 16, 2)
    small = found.saved_bytes - kept
    assert 0 <= small <= 4 * (2 * sum(mine[1:]) + 2 * 16 * 3)  # statistics, log-probabilities
    inputs = 16 * (4 * 20 + 8 + 4)
    wanted = (
        count_step_memory(count_perceptron(mine), int(momentum > 0), 0, inputs=inputs)
        + found.saved_bytes
    )
    assert found.memory_bytes == wanted


def test_memory_that_travels_is_counted_both_ways():
    local = replace(STEP, momentum=0.9, optimizer_state="send")
    method = ist(Task(normed((20, 12, 3), torch.Generator()), local, workers=2))
    found, _ = walked(method, 2, (20,))
    assert found.down_bytes == found.up_bytes == 2 * found.piece_bytes


def test_convolutions_by_hand():
    """k^2 c_in c_out positions for N_{l-1} N_l (9.2); the first needs no gradient of its input."""
    model = cnn((1, 8, 8), 3, torch.Generator(), channels=(4, 6), hidden=5)
    (found,) = walked(local_sgd(Task(model, replace(STEP, steps=1))), 1, (1, 8, 8))
    one, two = 25 * 1 * 4 * 64, 25 * 4 * 6 * 16
    dense = 6 * 4 * 5 + 5 * 3
    assert found.step_flops == 16 * (6 * (one + two + dense) - 2 * one)


def test_a_rehearsal_is_what_a_round_does():
    """Bytes, steps and pieces of jobs with numbers, for a model that does not lie on one axis."""
    model = mlp((20, 12, 8, 3), torch.Generator().manual_seed(0))
    method = ist(Task(model, STEP, workers=3))
    efforts = walked(method, 3, (20,))
    jobs = list(make_jobs(method, initialise_state(method), [0, 1, 2], {}, 0))
    assert [effort.down_bytes for effort in efforts] == [job.down_bytes for job in jobs]


def test_a_wide_model_is_planned_without_its_memory():
    """Speech-3 sixteen times as wide: 55 GB of weights, of which none is made."""
    widths = (4096, 131_072, 131_072, 35)
    with torch.device("meta"):
        model = normed(widths, torch.Generator())
    efforts = walked(ist(Task(model, STEP, workers=8)), 8, (4096,))
    assert efforts[0].piece_bytes == 4 * count_perceptron(narrow_widths(widths, 8))
    assert efforts[0].step_flops == count_perceptron_flops(narrow_widths(widths, 8), 16)


def test_a_model_that_looks_at_numbers_is_refused():
    model = mlp((20, 3), torch.Generator())
    peeking = replace(local_sgd(Task(model, STEP)).solve, losses={"": peek})
    job = Job(0, 0, 0, Share(), abstract_params(model.params))
    row = {"x": torch.zeros(1, 20), "y": torch.zeros(1, dtype=torch.long)}
    with pytest.raises((RuntimeError, NotImplementedError)):
        profile_job(peeking, job, TableRows(row, torch.zeros(8, dtype=torch.long)))


def peek(params, batch, kept):
    scale = float(batch["x"].sum())
    return (params["layer1.w"].sum() * scale).expand(len(batch["x"])), {}
