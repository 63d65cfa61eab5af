"""The partitioned layout beside the central one: same hands, same first values, same model."""

import pytest
import torch

from moiety.core.play import play
from moiety.core.protocols import Method
from moiety.core.rows import TableRows
from moiety.core.state import State
from moiety.core.streams import stream
from moiety.engine.owned import Peak
from moiety.engine.partitioned import Partitioned, Shards, check, whole_of
from moiety.engine.ranks import Ranks
from moiety.engine.resharding import load, save
from moiety.engine.serial import Serial
from moiety.methods.ist import ist
from moiety.methods.local_sgd import local_sgd
from moiety.methods.task import Local, Task
from moiety.models.mlp import mlp
from moiety.models.sharded import logits, outline, statistics

WIDTHS = (10, 32, 16, 3)


def problem(workers: int) -> dict[int, TableRows]:
    rng = stream(0, "rows")
    x, y = torch.randn(60 * workers, 10, generator=rng), torch.arange(60 * workers) % 3
    table = {"x": x + 2 * y[:, None], "y": y}
    return {w: TableRows(table, torch.arange(w, 60 * workers, workers)) for w in range(workers)}


def method_of(workers: int, deal: str = "stratified", keep: float = 0.0, widths=WIDTHS) -> Method:
    local = Local(lr=0.1, momentum=0.9, batch=16, epochs=0, steps=5)
    return ist(Task(outline(widths), local, workers=workers), deal=deal, keep=keep)


def central(method: Method, first, data, rounds: int, seed: int = 1):
    """Play the same with the whole in one place."""
    state = State(first)
    for _ in range(rounds):
        state = play(method, Serial(data.__getitem__), state, sorted(data), seed)
    return state.params


def first_whole(widths=WIDTHS):
    return dict(Shards(outline(widths), Ranks()).begin(1).params)


@pytest.mark.parametrize("size", [1, 2, 3])
def test_it_gives_the_bits_of_the_central_layout(spawned, size):
    """Spec 8.1 (9). Workers fewer than, as many as, and more than ranks; overlap; uneven blocks."""
    cases = [(2, "stratified", 0.0), (4, "round_robin", 0.0), (3, "quota", 0.6)]
    cases += [(5, "categorical", 0.0), (3, "bernoulli", 0.5)]

    def job(ranks):
        wrong = []
        for workers, deal, keep in cases:
            method, data = method_of(workers, deal, keep), problem(workers)
            shards = Shards(method.model, ranks).begin(1)
            for _ in range(3):
                Partitioned(method, data.__getitem__, 1).play(shards, sorted(data))
            found = whole_of(shards)
            wanted = central(method, first_whole(), data, 3)
            wrong += [(deal, n) for n in wanted if not torch.equal(found[n], wanted[n])]
        return wrong

    if size == 1:
        assert job(Ranks()) == []
    else:
        assert spawned(size, job) == [[]] * size


def test_a_round_sends_what_the_formula_says(spawned):
    """Spec 9.4: 2 (n - 1) / n of a piece from every rank, exactly."""

    def job(ranks):
        method, data = method_of(2), problem(2)
        shards = Shards(method.model, ranks).begin(1)
        Partitioned(method, data.__getitem__, 1).play(shards, [0, 1])
        return ranks.sent_bytes

    piece = 10 * 16 + 16 * 8 + 8 * 3 + 2 * (16 + 8)
    assert spawned(2, job) == [2 * (2 - 1) * 4 * piece // 2] * 2


def test_it_is_scored_without_a_whole(spawned):
    """Statistics and scores of blocks are those that the whole model's ``calibrate`` gives."""
    rows = problem(2)[0]
    x = rows.take(torch.arange(40))["x"]

    def job(ranks):
        shards = Shards(outline(WIDTHS), ranks).begin(1)
        fixed = statistics(shards.model, shards.params, x, ranks.columns, ranks.total)
        found = logits(shards.model, shards.params, x, ranks.columns, ranks.total, fixed)
        return found.tolist()

    whole, model = first_whole(), outline(WIDTHS)
    short = TableRows(rows.table, rows.index[:40])
    wanted = model.logits(model.calibrate(whole, short, {}), {"x": x}, {})
    for found in spawned(2, job):
        torch.testing.assert_close(torch.tensor(found), wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", list(first_whole()))
def test_first_values_do_not_depend_on_the_number_of_ranks(name):
    widths = (5, 200, 150, 3)
    whole = first_whole(widths)[name]
    for size in (2, 3, 7):
        parts = [Shards(outline(widths), Ranks(r, size)).begin(1) for r in range(size)]
        dim = parts[0].dim(name)
        assert torch.equal(torch.cat([p.params[name] for p in parts], dim), whole)
    if name.endswith(".w"):
        bound = whole.shape[1] ** -0.5
        assert whole.abs().max() <= bound
        assert whole.std() == pytest.approx(bound / 3**0.5, rel=0.1)


def test_peak_counts_live_bytes():
    with Peak() as peak:
        a = torch.zeros(1000)
        b = a + 1
        del a
        c = b.view(10, 100) * 2
        del b
    assert (peak.most, peak.now) == (8000, 4000)
    assert c.shape == (10, 100)


def test_the_peak_of_a_rank_is_that_of_the_formula(spawned):
    """Spec 9.3, within 15 %: (2 b P_s + b P / n) and the activations of a batch."""
    widths, n, batch = (64, 512, 512, 10), 2, 16

    def job(ranks):
        data = problem(2)
        rng = stream(0, "wide")
        table = {"x": torch.randn(64, 64, generator=rng), "y": torch.arange(64) % 10}
        data = {w: TableRows(table, torch.arange(w, 64, 2)) for w in (0, 1)}
        local = Local(lr=0.1, momentum=0.0, batch=batch, epochs=0, steps=3)
        method = ist(Task(outline(widths), local, workers=n), deal="stratified")
        with Peak() as peak:
            shards = Shards(method.model, ranks).begin(1)
            for _ in range(2):
                Partitioned(method, data.__getitem__, 1).play(shards, [0, 1])
        return peak.most

    inner = 512 // n
    piece = 64 * inner + inner * inner + inner * 10 + 4 * inner
    whole = 64 * 512 + 512 * 512 + 512 * 10 + 4 * 512
    formula = 4 * (2 * piece + whole / n + batch * (64 + 3 * 2 * inner + 10))
    for most in spawned(2, job):
        assert most == pytest.approx(formula, rel=0.15)


def test_what_cannot_be_partitioned_is_told_the_remedy():
    task = Task(mlp((4, 3, 2), stream(0)), workers=2)
    with pytest.raises(ValueError, match=r"--net\.kind normed"):
        check(local_sgd(task))
    carry = Task(outline(WIDTHS), Local(moments="carry"), workers=2)
    with pytest.raises(ValueError, match="reset"):
        check(ist(carry))
    check(method_of(2))


def test_blocks_written_by_two_ranks_go_on_with_one_and_with_three(spawned, tmp_path):
    """Logical workers stay what they are: the same bits as a run that never stopped."""
    method, data = method_of(4, "round_robin"), problem(4)

    def job(ranks):
        shards, run = Shards(method.model, ranks), Partitioned(method, data.__getitem__, 1)
        known = load(shards, tmp_path, "mine")
        if not known:
            shards.begin(1)
        for _ in range(2):
            run.play(shards, sorted(data))
        if not known:
            save(shards, tmp_path, "mine")
            with pytest.raises(ValueError, match="another run"):
                load(shards, tmp_path, "other")
        return known, shards.round, {n: t.tolist() for n, t in whole_of(shards).items()}

    assert [told[:2] for told in spawned(2, job)] == [(False, 2)] * 2
    wanted = {n: t.tolist() for n, t in central(method, first_whole(), data, 4).items()}
    for size in (1, 3):
        assert spawned(size, job) == [(True, 4, wanted)] * size
