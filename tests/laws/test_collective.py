"""Two and three ranks agree with ``Serial`` for every method, bit for bit; one spawn for all."""

import pytest
import torch

from moiety.core.axes import Part
from moiety.core.fold import Precision
from moiety.core.stage import Stage
from moiety.core.state import count_bytes
from moiety.core.streams import stream
from moiety.engine.collective import Collective, ScatteredStore, drop_numbers, gather_memory
from moiety.engine.packing import PackedValue, pack_value, place_storage, unpack_value
from moiety.engine.serial import Serial
from moiety.methods import METHODS
from moiety.rounds.asynchronous import AsynchronousRounds, Concurrency
from moiety.rounds.schedule import Schedule, Speeds
from moiety.rounds.synchronous import initialise_state, make_jobs, play_round
from moiety.run.same_ranks import scatter_pieces
from moiety.wire.config import WireConfig, apply_wire


def differences(found, wanted, where=""):
    if isinstance(wanted, torch.Tensor):
        return [] if torch.equal(found, wanted) else [where]
    if set(found) != set(wanted):
        return [f"{where}: {sorted(map(str, found))} is not {sorted(map(str, wanted))}"]
    return [d for key in wanted for d in differences(found[key], wanted[key], f"{where}/{key}")]


@pytest.fixture(scope="module")
def in_one_place(every) -> dict:
    """Play every method with ``Serial``: one round, then two from the start; state and memory."""
    found = {}
    for name, make in every.items():
        case = make()
        engine = Serial(case.open())
        case.play(engine, case.begin(), 1)
        found[name] = case.play(engine, case.begin(), 2), engine.memory
    return found


@pytest.mark.parametrize("size", [2, 3])
def test_the_collective_engine_agrees_with_serial(every, in_one_place, spawned, size):
    """States and memories after three rounds of changing rosters, some with idle ranks."""

    def job(ranks):
        wrong = []
        for name, make in every.items():
            case, (wanted, memory) = make(), in_one_place[name]
            engine, stages = scatter_pieces(
                Collective(case.open(), ranks=ranks), [Stage(case.method, 1)]
            )
            case.method = stages[0].method
            for rounds in (1, 2):
                found = case.play(engine, case.begin(), rounds)
            for part in ("params", "server", "optimizer_state"):
                wrong += differences(getattr(found, part), getattr(wanted, part), f"{name}/{part}")
            wrong += differences(gather_memory(engine.memory, ranks), memory, f"{name}/memory")
        return wrong

    assert spawned(size, job) == [[]] * size


SLOW = Speeds("levels", (1.0, 5.0))


@pytest.mark.parametrize(
    "schedule",
    [
        Schedule("buffered", 1, rate=0.5, speeds=SLOW),
        Schedule("buffered", 2, change=True, speeds=SLOW),
    ],
)
def test_servers_that_do_not_wait_do_so_on_several_ranks_too(spawned, schedule):
    """FedAsync and FedBuff, whose late replies are drawn back: bit for bit."""

    def end(make):
        demo = METHODS["asyncdrop"].demo(stream(0, "demo"))
        engine, stages = make(demo.data.__getitem__, demo.method)
        async_plan = AsynchronousRounds(stages[0].method, engine, Concurrency(6, 3), 0, schedule)
        state = initialise_state(stages[0].method)
        for _ in range(5):
            state = async_plan.advance(state)[0]
        return state

    def job(ranks):
        two = end(lambda rows, m: scatter_pieces(Collective(rows, ranks=ranks), [Stage(m, 1)]))
        one = end(lambda rows, m: (Serial(rows), [Stage(m, 1)]))
        assert any(flight.job.round < one.round - 1 for flight in one.clock.in_flight)
        return differences(two.params, one.params)

    assert spawned(2, job) == [[], []]


def test_averaging_wholes_sends_what_a_ring_would(every, spawned):
    """Spec 9.4: 2 (n - 1) / n of the model from every rank, where each holds one worker."""

    def job(ranks):
        case = every["local_sgd"]()
        engine = Collective(case.open(), ranks=ranks)
        engine, stages = scatter_pieces(engine, [Stage(case.method, 1)])
        play_round(stages[0].method, engine, case.begin(), [0, 1], 0)
        whole = sum(t.numel() * t.element_size() for t in case.method.model.params.values())
        return ranks.transfers.sent_bytes, whole

    for sent, whole in spawned(2, job):
        assert sent == 2 * (2 - 1) * whole // 2


def test_pieces_that_are_cut_go_once_to_every_other_rank(every, spawned):
    """Of a network with no parameter whole: (n - 1) pieces leave a rank, and not a byte more."""

    def job(ranks):
        case = every["ist"]()
        engine = Collective(case.open(), ranks=ranks)
        engine, stages = scatter_pieces(engine, [Stage(case.method, 1)])
        method, state = stages[0].method, case.begin()
        play_round(method, engine, state, [0, 1], 0)
        (piece,) = [
            job.down_bytes
            for job in make_jobs(method, state, [0, 1], {}, 0)
            if job.worker == ranks.rank
        ]
        return ranks.transfers.sent_bytes, piece

    for sent, piece in spawned(2, job):
        assert sent == piece


def test_codes_go_once_to_every_other_rank(every, spawned):
    """Not the pieces that they stand for; states and memories are those of ``Serial``."""
    config = WireConfig(("delta", "topk", "int4"), ("int8",), keep=0.1)

    def job(ranks):
        case = every["diloco"]()
        method = apply_wire(case.method, config)
        one, state = Serial(case.open()), case.begin()
        two, stages = scatter_pieces(Collective(case.open(), ranks=ranks), [Stage(method, 1)])
        first = play_round(stages[0].method, two, state, [0, 1], 0)
        wrong = differences(first.params, play_round(method, one, state, [0, 1], 0).params)
        wrong += differences(gather_memory(two.memory, ranks), one.memory)
        reply = next(one.map(method.solve, make_jobs(method, state, [ranks.rank], {}, 0)))
        return wrong, ranks.transfers.sent_bytes, reply.up_bytes, count_bytes(method.model.params)

    for wrong, sent, coded, whole in spawned(2, job):
        assert not wrong
        assert sent == coded < whole / 4


def test_a_worker_that_fails_fails_everywhere_alike(every, spawned):
    def job(ranks):
        case = every["fedavg"]()
        case.data = {**case.data, 3: type(case.data[3])(case.data[3].table, torch.arange(0))}
        try:
            case.play(Collective(case.open(), ranks=ranks), case.begin(), 1)
        except RuntimeError as error:
            return str(error)

    first, second = spawned(2, job)
    assert first == second
    assert "worker 3, round 1" in first


def test_rows_that_cannot_be_opened_are_told_to_all_ranks(every, spawned):
    """Or the others would wait for the one that is gone."""

    def job(ranks):
        case = every["fedavg"]()
        open_rows = case.open()

        def gone(worker):
            if worker == 3:
                raise FileNotFoundError("shard-3.parquet")
            return open_rows(worker)

        try:
            case.play(Collective(gone, ranks=ranks), case.begin(), 1)
        except RuntimeError as error:
            return str(error)

    first, second = spawned(2, job)
    assert first == second
    assert "worker 3" in first
    assert "shard-3.parquet" in first


@pytest.mark.parametrize("size", [1, 2])
def test_what_counts_for_nothing_changes_nothing(spawned, size):
    """Pieces of precision 0 leave a parameter as it was, in slices as at one place."""

    def job(ranks):
        params = {"w": torch.arange(5.0), "b": torch.ones(2)}
        store = ScatteredStore(ranks, params, {})
        for place in range(2):
            mine = place % ranks.size == ranks.rank
            piece = {n: torch.full_like(t, 9.0) for n, t in params.items()}
            store.add(Part(), piece if mine else drop_numbers(piece), Precision(0.0))
        merged, held = store.close()
        same = all(torch.equal(merged[name], params[name]) for name in params)
        return same, [bool(one.any()) for one in held.values()]

    assert spawned(size, job) == [(True, [False, False])] * size


def test_tensors_of_other_gpus_are_put_on_ours(monkeypatch):
    """Where there are GPUs a value travels as bytes, and what lay on any of them comes to ours."""
    value = {"a": torch.arange(3.0), "b": [1, "two"]}
    assert pack_value(value) is value  # nothing to do here
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 3)
    sent = pack_value(value)
    assert isinstance(sent, PackedValue)
    found = unpack_value(sent)
    assert torch.equal(found["a"], value["a"])
    assert found["b"] == value["b"]

    class Storage:
        def cuda(self, place):
            return place

    storage = Storage()
    assert place_storage(storage, "cuda:0") == 3
    assert place_storage(storage, "cpu") is storage
