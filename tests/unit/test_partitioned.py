"""The partitioned layout beside the central one: same hands, same first values, same model."""

import sys
from dataclasses import dataclass, replace
from pathlib import Path
from traceback import StackSummary
from typing import Any

import pytest
import torch
from torch import Generator
from torch.distributed.checkpoint.api import CheckpointException

from moiety.blocks.checkpoint import INDEX, load_blocks, save_blocks
from moiety.blocks.memory import MemoryMeter
from moiety.blocks.normed import make_abstract_normed
from moiety.blocks.partitioned import BlockRounds, check_partitioned, receive_piece
from moiety.blocks.peers import average_shared, update_blocks
from moiety.blocks.shards import PARAMS, PassedPieces, Shards, find_block, gather_whole
from moiety.blocks.slices import fold_slices, return_slices
from moiety.core.axes import Part
from moiety.core.errors import RunError
from moiety.core.protocols import Method
from moiety.core.rows import TableRows
from moiety.core.state import State
from moiety.core.streams import stream
from moiety.data.graph import GraphRows, mirror_edges
from moiety.engine.ranks import Ranks
from moiety.engine.serial import Serial
from moiety.methods.gist import gist
from moiety.methods.ist import ist
from moiety.methods.local_sgd import local_sgd
from moiety.methods.task import LocalTraining, Task
from moiety.models.graph import graphnet
from moiety.models.mlp import mlp
from moiety.recipes.blocks import check_blocks
from moiety.recipes.ist import ist_digits
from moiety.rounds.cohort import FixedCohort
from moiety.rounds.synchronous import play_round
from moiety.solve.sgd import LocalSGD
from moiety.tasks.objectives import NodeLosses, Proximal
from moiety.wire.config import WireConfig, apply_wire

WIDTHS = (10, 32, 16, 3)


def problem(workers: int) -> dict[int, TableRows]:
    rng = stream(0, "rows")
    x, y = torch.randn(60 * workers, 10, generator=rng), torch.arange(60 * workers) % 3
    table = {"x": x + 2 * y[:, None], "y": y}
    return {w: TableRows(table, torch.arange(w, 60 * workers, workers)) for w in range(workers)}


def method_of(
    workers: int, assignment: str = "stratified", keep: float = 0.0, widths=WIDTHS
) -> Method:
    local = LocalTraining(lr=0.1, momentum=0.9, batch=16, epochs=0, steps=5)
    return ist(
        Task(make_abstract_normed(widths), local, workers=workers), assignment=assignment, keep=keep
    )


def central(method: Method, first, data, rounds: int, seed: int = 1) -> State:
    """Play the same with the whole in one place."""
    state = State(first, optimizer_state=method.solve.first_optimizer_state(first))
    for _ in range(rounds):
        state = play_round(method, Serial(data.__getitem__), state, sorted(data), seed)
    return state


def first_of(model):
    return dict(Shards(model, Ranks()).begin(1).params)


def first_whole(widths=WIDTHS):
    return first_of(make_abstract_normed(widths))


def unlike(method: Method, data, ranks: Ranks, *, peers: bool, rounds: int = 3) -> list[str]:
    """Name the tensors in which blocks differ from the whole in one place."""
    run = BlockRounds(method, data.__getitem__, FixedCohort(tuple(sorted(data))), 1, peers)
    shards = run.begin(Shards(method.model, ranks))
    for _ in range(rounds):
        run.advance(shards)
    update_blocks(shards)
    wanted = central(method, first_of(method.model), data, rounds)
    wrong = []
    for section, tensors in {PARAMS: wanted.params, **wanted.optimizer_state}.items():
        found = gather_whole(shards, section)
        wrong += [f"{section} {n}" for n, t in tensors.items() if not torch.equal(found[n], t)]
    return wrong


@pytest.mark.parametrize("size", [1, 2, 3])
def test_it_gives_the_bits_of_the_central_layout(spawned, size):
    """Spec 8.1 (9). Workers fewer than, as many as, and more than ranks; overlap; uneven blocks."""
    cases = [(2, "stratified", 0.0), (4, "round_robin", 0.0), (3, "quota", 0.6)]
    cases += [(5, "categorical", 0.0), (3, "bernoulli", 0.5)]

    def job(ranks):
        wrong = []
        for workers, assignment, share in cases:
            told = unlike(
                method_of(workers, assignment, share), problem(workers), ranks, peers=False
            )
            wrong += [(assignment, name) for name in told]
        return wrong

    if size == 1:
        assert job(Ranks()) == []
    else:
        assert spawned(size, job) == [[]] * size


@pytest.mark.parametrize("size", [2, 3])
def test_hands_that_pass_from_worker_to_worker_give_the_same_bits(spawned, size):
    """Spec 8.1 (9), peer to peer: where it can be, and by way of the owners where it cannot."""
    cases = [(size, "round_robin", 0.0), (size, "categorical", 0.0), (size, "quota", 0.6)]
    cases += [(size + 1, "round_robin", 0.0), (size, "stratified", 0.0)]

    def job(ranks):
        wrong = []
        for workers, assignment, share in cases:
            told = unlike(
                method_of(workers, assignment, share), problem(workers), ranks, peers=True
            )
            wrong += [(assignment, name) for name in told]
        return wrong

    assert spawned(size, job) == [[]] * size


@pytest.mark.parametrize("peers", [False, True])
@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_moments_that_travel_lie_in_blocks_too(spawned, peers, optimizer):
    local = LocalTraining(
        optimizer, lr=0.01, momentum=0.9, batch=16, epochs=0, steps=3, optimizer_state="send"
    )
    method, data = ist(Task(make_abstract_normed(WIDTHS), local, workers=2)), problem(2)

    def job(ranks):
        return unlike(method, data, ranks, peers=peers)

    assert spawned(2, job) == [[], []]


@pytest.mark.parametrize("peers", [False, True])
def test_hand_example_of_three_layers_in_blocks(spawned, peers):
    """Spec 5.2: eight middle entries are nobody's, and the output bias is held by both: 5.5."""
    parts = [
        Part({"h1": torch.tensor([0, 3]), "h2": torch.tensor([0, 1])}),
        Part({"h1": torch.tensor([1, 2]), "h2": torch.tensor([2, 3])}),
    ]
    graph = [Part({f"d{a[1]}": kept for a, kept in part.axes.items()}) for part in parts]
    with torch.device("meta"):
        gcn = graphnet("gcn", (2, 4, 4, 2), Generator())

    def change(model, parts, ranks):
        shards = Shards(model, ranks).begin(1)
        before = gather_whole(shards)
        piece = receive_piece(shards, parts)
        for tensor in piece[PARAMS].values():
            tensor.add_((1.0, 10.0)[ranks.rank])
        if peers:
            shards.passed = PassedPieces(parts, average_shared(shards, parts, piece))
            update_blocks(shards)
        else:
            for _, name, block in shards.tensors():
                came = return_slices(shards, name, parts, piece[PARAMS][name])
                fold_slices(block, came, shards.dim(name, block))
        return {name: (t - before[name]).tolist() for name, t in gather_whole(shards).items()}

    def job(ranks):
        return change(make_abstract_normed((2, 4, 4, 2)), parts, ranks), change(gcn, graph, ranks)

    near = {"rtol": 0, "atol": 2e-6}
    middle = torch.tensor([[1.0, 0, 0, 1], [1.0, 0, 0, 1], [0, 10.0, 10, 0], [0, 10.0, 10, 0]])
    per_unit = torch.tensor([1.0, 10.0, 10.0, 1.0])
    for normed, graphed in spawned(2, job):
        torch.testing.assert_close(torch.tensor(normed["layer2.w"]), middle, **near)
        assert int((torch.tensor(normed["layer2.w"]) == 0).sum()) == 8
        first = torch.tensor(normed["layer1.w"])
        torch.testing.assert_close(first, per_unit[:, None].expand(4, 2), **near)
        torch.testing.assert_close(torch.tensor(graphed["layer2.w"]), middle.T, **near)
        torch.testing.assert_close(torch.tensor(graphed["layer3.b"]), torch.full((2,), 5.5), **near)


def graphs(workers: int) -> dict[int, GraphRows]:
    rng = stream(0, "graph")
    edges = mirror_edges((torch.rand(60, 60, generator=rng) < 0.1).triu(1).nonzero().T)
    y = torch.arange(60) % 3
    table = {"x": torch.randn(60, 10, generator=rng) + y[:, None], "y": y}
    clusters = torch.arange(60) // 15
    return {w: GraphRows(table, edges, clusters, torch.arange(4)) for w in range(workers)}


def graph_method(kind: str, workers: int, *, inputs: bool = False, widths=WIDTHS) -> Method:
    with torch.device("meta"):
        model = graphnet(kind, widths, Generator())
    local = LocalTraining("adam", lr=0.01, batch=2, epochs=0, steps=3)
    task = Task(model, local, workers=workers, losses=NodeLosses)
    return gist(task, inputs=inputs)


@pytest.mark.parametrize("kind", ["gcn", "sage"])
def test_graph_networks_lie_in_blocks(spawned, kind):
    """Spec 8.1 (9) for GIST: hidden features dealt, and inputs too; through owners and straight."""
    data = graphs(2)

    def job(ranks):
        wrong = []
        for peers in (False, True):
            for inputs in (False, True):
                method = graph_method(kind, 2, inputs=inputs)
                told = unlike(method, data, ranks, peers=peers)
                wrong += [(peers, inputs, name) for name in told]
        return wrong

    assert spawned(2, job) == [[], []]


@pytest.mark.parametrize("kind", ["gcn", "sage"])
@pytest.mark.parametrize(
    ("size", "widths"), [(2, WIDTHS), (2, (10, 7, 3)), (2, (10, 3)), (4, (10, 9, 5, 3))]
)
def test_a_graph_is_scored_without_a_whole(spawned, kind, size, widths):
    batch = graphs(1)[0].take(torch.arange(4))
    with torch.device("meta"):
        model = graphnet(kind, widths, Generator())

    def job(ranks):
        shards = Shards(model, ranks).begin(1)
        return shards.form.logits(shards.params, batch, {}, ranks).tolist()

    wanted = model.logits(first_of(model), batch, {})
    for found in spawned(size, job):
        torch.testing.assert_close(torch.tensor(found), wanted, rtol=1e-4, atol=1e-5)


def test_passing_straight_sends_less(spawned):
    """A tensor cut along one axis travels once; of one cut along two, (n - 1) / n (2 - 1 / n)."""
    widths, n, rounds = (64, 400, 400, 10), 2, 12

    def job(ranks):
        method, data = method_of(n, widths=widths), problem(n)
        table = {"x": torch.randn(120, 64, generator=stream(0, "wide")), "y": torch.arange(120) % 9}
        data = {w: TableRows(table, torch.arange(w, 120, n)) for w in range(n)}
        run = BlockRounds(method, data.__getitem__, FixedCohort(tuple(range(n))), 1, peers=True)
        shards = Shards(method.model, ranks).begin(1)
        run.advance(shards)
        begun = ranks.transfers.sent_bytes
        for _ in range(rounds):
            run.advance(shards)
        return (ranks.transfers.sent_bytes - begun) / rounds

    one, two = 4 * (64 * 200 + 200 * 10 + 4 * 200), 4 * 200 * 200
    wanted = (n - 1) / n * (one + (2 - 1 / n) * two)
    owners = 2 * (n - 1) / n * (one + two)
    for sent in spawned(n, job):
        assert sent == pytest.approx(wanted, rel=0.03)
        assert sent < 0.72 * owners


def test_a_round_sends_what_the_formula_says(spawned):
    """Spec 9.4: 2 (n - 1) / n of a piece from every rank, exactly."""

    def job(ranks):
        method, data = method_of(2), problem(2)
        shards = Shards(method.model, ranks).begin(1)
        BlockRounds(method, data.__getitem__, FixedCohort((0, 1)), 1).advance(shards)
        return ranks.transfers.sent_bytes

    piece = 10 * 16 + 16 * 8 + 8 * 3 + 2 * (16 + 8)
    assert spawned(2, job) == [2 * (2 - 1) * 4 * piece // 2] * 2


@pytest.mark.parametrize(("size", "widths"), [(2, WIDTHS), (4, (10, 9, 5, 3))])
@pytest.mark.parametrize("calibrated", [True, False])
def test_it_is_scored_without_a_whole(spawned, size, widths, calibrated):
    """Statistics and scores of blocks are those that the whole model's ``calibrate`` gives.

    Of 9 and of 5 units the last of four ranks holds none.
    """
    rows = problem(2)[0]
    x = rows.take(torch.arange(40))["x"]

    def job(ranks):
        shards = Shards(make_abstract_normed(widths), ranks).begin(1)
        fixed = shards.form.fix(shards.params, short, ranks) if calibrated else {}
        return shards.form.logits(shards.params, {"x": x}, fixed, ranks).tolist()

    whole, model = first_whole(widths), make_abstract_normed(widths)
    short = TableRows(rows.table, rows.index[:40])
    used = model.calibrate(whole, short, {}) if calibrated else whole
    wanted = model.logits(used, {"x": x}, {})
    for found in spawned(size, job):
        torch.testing.assert_close(torch.tensor(found), wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", list(first_whole()))
def test_first_values_do_not_depend_on_the_number_of_ranks(name):
    widths = (5, 200, 150, 3)
    whole = first_whole(widths)[name]
    for size in (2, 3, 7):
        parts = [Shards(make_abstract_normed(widths), Ranks(r, size)).begin(1) for r in range(size)]
        dim: Any = parts[0].form.dim(name)
        assert torch.equal(torch.cat([p.params[name] for p in parts], dim), whole)
    if name.endswith(".w"):
        bound = whole.shape[1] ** -0.5
        assert whole.abs().max() <= bound
        assert whole.std() == pytest.approx(bound / 3**0.5, rel=0.1)


def test_peak_counts_live_bytes():
    with MemoryMeter() as peak:
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
        local = LocalTraining(lr=0.1, momentum=0.0, batch=batch, epochs=0, steps=3)
        method = ist(Task(make_abstract_normed(widths), local, workers=n), assignment="stratified")
        with MemoryMeter() as peak:
            shards = Shards(method.model, ranks).begin(1)
            for _ in range(2):
                BlockRounds(method, data.__getitem__, FixedCohort((0, 1)), 1).advance(shards)
        return peak.most

    inner = 512 // n
    piece = 64 * inner + inner * inner + inner * 10 + 4 * inner
    whole = 64 * 512 + 512 * 512 + 512 * 10 + 4 * 512
    formula = 4 * (2 * piece + whole / n + batch * (64 + 3 * 2 * inner + 10))
    for most in spawned(2, job):
        assert most == pytest.approx(formula, rel=0.15)


def test_what_cannot_be_partitioned_is_told_the_remedy():
    task = Task(mlp((4, 3, 2), stream(0)), workers=2)
    with pytest.raises(ValueError, match="--net normed"):
        check_partitioned(local_sgd(task))
    kept = Task(make_abstract_normed(WIDTHS), LocalTraining(optimizer_state="keep"), workers=2)
    with pytest.raises(ValueError, match="'reset' or 'send'"):
        check_partitioned(ist(kept))
    check_partitioned(method_of(2))
    with pytest.raises(ValueError, match=r"layer1.w is assigned along \{'d0'\}, but lies in no"):
        check_partitioned(graph_method("gcn", 2, inputs=True, widths=(10, 3)))
    solve: Any = method_of(2).solve
    pulled = replace(method_of(2), solve=replace(solve, terms=(Proximal(0.1),)))
    with pytest.raises(ValueError, match="take engine='collective'"):
        check_partitioned(pulled)
    coded = apply_wire(method_of(2), WireConfig(("int8",)))
    with pytest.raises(ValueError, match="ranks in blocks send blocks and no replies"):
        check_partitioned(coded)
    with pytest.raises(ValueError, match=r"got wire.up=\['int8'\].* say --engine collective"):
        check_blocks(replace(ist_digits(), engine="peers", wire=WireConfig(("int8",))))
    with pytest.raises(ValueError, match=r"gives wholes.* say --methods ist"):
        check_partitioned(local_sgd(Task(make_abstract_normed(WIDTHS), workers=2)))


@dataclass(frozen=True)
class Remembering:
    """A solver that leaves something with workers, and calls it by a name of its own."""

    inner: LocalSGD
    keeps_memory: bool = True
    needs_origin: bool = False
    uses_batch_statistics: bool = False
    stackable: bool = False
    needs_statistics: bool = False
    accumulate: int = 1

    def first_optimizer_state(self, params, /):
        return self.inner.first_optimizer_state(params)

    def plan(self, size, job, /):
        return self.inner.plan(size, job)

    def start(self, job, memory, /):
        return {**self.inner.start(job, {}), "seen": memory}

    def loss(self, params, carry, batch, role, /):
        return self.inner.loss(params, carry, batch, role)

    def move(self, carry, grads, lr, /):
        return self.inner.move(carry, grads, lr)

    def move_in_place(self, carry, grads, lr, /):
        self.inner.move_in_place(carry, grads, lr)

    def statistics(self, carry, batch, role, /):
        return self.inner.statistics(carry, batch, role)

    def finish(self, job, plan, carry, statistics, /):
        done = self.inner.finish(job, plan, carry, statistics)
        return replace(done, memory={"seen": {"rounds": torch.ones(1)}})


def test_a_solver_with_memory_of_its_own_is_not_played_in_blocks():
    """Its memory would be dropped without a word."""
    method = method_of(2)
    assert isinstance(method.solve, LocalSGD)
    with pytest.raises(ValueError, match="leaves memory with workers"):
        check_partitioned(replace(method, solve=Remembering(method.solve)))
    check_partitioned(replace(method, solve=Remembering(method.solve, keeps_memory=False)))


def test_blocks_written_by_two_ranks_go_on_with_one_and_with_three(spawned, tmp_path):
    """Logical workers stay what they are: the same bits as a run that never stopped."""
    method, data = method_of(4, "round_robin"), problem(4)

    def job(ranks):
        shards = Shards(method.model, ranks)
        run = BlockRounds(method, data.__getitem__, FixedCohort(tuple(sorted(data))), 1)
        known = load_blocks(shards, tmp_path, "mine") is not None
        if not known:
            shards.begin(1)
        for _ in range(2):
            run.advance(shards)
        if not known:
            save_blocks(shards, tmp_path, "mine")
            with pytest.raises(ValueError, match="another run"):
                load_blocks(shards, tmp_path, "other")
        return known, shards.round, {n: t.tolist() for n, t in gather_whole(shards).items()}

    assert [told[:2] for told in spawned(2, job)] == [(False, 2)] * 2
    wanted = {n: t.tolist() for n, t in central(method, first_whole(), data, 4).params.items()}
    for size in (1, 3):
        assert spawned(size, job) == [(True, 4, wanted)] * size


def test_damaged_blocks_are_refused_by_name(spawned, tmp_path):
    """Without one file the rest would read as if it were all, with whatever the memory held."""
    method, data = method_of(3, widths=(10, 12, 3)), problem(3)

    def job(ranks):
        run = BlockRounds(method, data.__getitem__, FixedCohort((0, 1, 2)), 1)
        shards = run.begin(Shards(method.model, ranks))
        run.advance(shards)
        save_blocks(shards, tmp_path, "mine")
        run.advance(shards)
        return str(save_blocks(shards, tmp_path, "mine"))

    where = Path(spawned(3, job)[0])
    files = sorted(where.glob("*.safetensors"))
    assert len(files) == 3
    for file in [*files, where / INDEX]:
        kept = file.read_bytes()
        flipped = kept[:-9] + bytes([kept[-9] ^ 1]) + kept[-8:]
        for damage in ((None,) if file in files else ()) + (kept[:-8], flipped):
            file.unlink() if damage is None else file.write_bytes(damage)
            with pytest.raises(ValueError, match=rf"{file.name}.*from another with --at \(1\)"):
                load_blocks(Shards(method.model, Ranks()), tmp_path, "mine")
        file.write_bytes(kept)
    assert load_blocks(Shards(method.model, Ranks()), tmp_path, "mine")
    with pytest.raises(RunError, match=r"no checkpoint of round 5; it has \[1, 2\]"):
        load_blocks(Shards(method.model, Ranks()), tmp_path, "mine", at=5)
    shards = Shards(method.model, Ranks())
    assert load_blocks(shards, tmp_path, "mine", at=1)
    assert shards.round == 1
    assert where.exists()  # reading gives nothing up; what came later goes with its ledger


def test_what_torch_says_of_checkpoints_is_an_error_like_any(monkeypatch, tmp_path):
    """A disk that is full: torch's own exception would pass every handler."""

    def full(*_args, **_kwargs):
        raise CheckpointException("failed", {0: (OSError("no space left"), StackSummary())})

    monkeypatch.setattr(sys.modules[save_blocks.__module__], "write", full)
    shards = Shards(make_abstract_normed(WIDTHS), Ranks()).begin(1)
    with pytest.raises(RuntimeError, match="no space left"):
        save_blocks(shards, tmp_path, "mine")


def test_ranks_without_a_worker_are_sent_nothing_that_lies_in_blocks(spawned):
    """Three workers on two ranks, one layer shared: the second wave leaves a rank idle."""
    local = LocalTraining(lr=0.1, momentum=0.9, batch=16, epochs=0, steps=5)
    method = ist(Task(make_abstract_normed(WIDTHS), local, workers=3), shared=("h1",))
    data, sizes = problem(3), {"h1": 32, "h2": 16}

    def job(ranks):
        run = BlockRounds(method, data.__getitem__, FixedCohort((0, 1, 2)), 1)
        shards = run.begin(Shards(method.model, ranks))
        shares = run.split(0)
        run.advance(shards)
        away = 0  # numbers of the pieces of workers that lie at the other rank
        for worker, share in shares.items():
            for name, entries in method.model.axes.items():
                dim, size = shards.form.dim(name), 1
                for place, entry in enumerate(entries):
                    whole = torch.arange(shards.model.params[name].shape[place])
                    kept = share.part.axes.get(str(entry), whole)
                    if place == dim:
                        block = find_block(sizes[str(entry)], 1 - worker % 2, 2)
                        kept = [unit for unit in kept.tolist() if unit in block]
                    size *= len(kept)
                away += size
        return (
            ranks.transfers.sent_bytes,
            away,
            {n: t.tolist() for n, t in gather_whole(shards).items()},
        )

    wanted = {n: t.tolist() for n, t in central(method, first_whole(), data, 1).params.items()}
    (sent, away, one), (other, _, two) = spawned(2, job)
    assert one == two == wanted
    assert sent + other == 2 * 4 * away
