"""What is sent is coded: codes, both ends of the wire, and rounds on every engine."""

from dataclasses import replace
from typing import Any

import pytest
import torch

from moiety.core.axes import Part, take_piece
from moiety.core.rows import TableRows
from moiety.core.state import CODED, Job, Reply, Share, Update, count_section_bytes, make_empty_plan
from moiety.core.streams import stream
from moiety.engine.letters import read_job, read_letter, read_reply, write_job, write_reply
from moiety.engine.pool import Pool
from moiety.engine.serial import Serial
from moiety.engine.vectorized import Vectorized
from moiety.methods import METHODS
from moiety.methods.dmoe import demo as dmoe_demo
from moiety.methods.task import LocalTraining, Task
from moiety.models.mlp import mlp
from moiety.rounds.asynchronous import AsynchronousRounds, Concurrency
from moiety.rounds.cohort import FixedCohort
from moiety.rounds.schedule import Schedule, Speeds
from moiety.rounds.synchronous import SynchronousRounds, initialise_state, make_jobs
from moiety.run.checkpoint import Checkpoint, read_checkpoint, write_checkpoint
from moiety.solve.wrapped import FinishedJob
from moiety.wire.chain import Chain
from moiety.wire.config import WireConfig, apply_wire
from moiety.wire.ends import LEFT, CodedSender
from moiety.wire.stages import KeepLargest, Quantise, RoundToBfloat16

MODEL = mlp((8, 12, 3), stream(0, "net"))
X = torch.randn(36, 8, generator=stream(1))
ROWS = {w: TableRows({"x": X, "y": (X[:, 0] > 0).long()}, torch.arange(w, 36, 4)) for w in range(4)}
LOCAL = LocalTraining(lr=0.1, momentum=0.0, batch=4)
TASK = Task(MODEL, LOCAL, workers=4, classes=3, population=4)
FEW = WireConfig(("delta", "topk", "int4"), ("int8",), keep=0.1)
STAGES = {
    "bf16": (RoundToBfloat16(), 2**-8),
    "int8": (Quantise(8), 1.02 * 2 / 255),
    "int4": (Quantise(4), 1.02 * 2 / 15),
    "int2": (Quantise(2), 1.02 * 2 / 3),
}


def play(name, config, make_engine: Any = Serial, rounds=2):
    """Play some rounds of a method; state, memories and ledger entries."""
    method = apply_wire(METHODS[name].make(TASK), config)
    engine, state, told = make_engine(ROWS.__getitem__), initialise_state(method), []
    played = SynchronousRounds(method, engine, FixedCohort((0, 1, 2, 3)), 7)
    for _ in range(rounds):
        state, entry = played.advance(state)
        told.append(entry)
    engine.close()
    return state, dict(engine.memory), told


def flat(tree):
    return {
        (*path, key): t
        for key, value in tree.items()
        for path, t in (flat(value).items() if isinstance(value, dict) else [((), value)])
    }


def is_equal(one, other):
    one, other = flat(one), flat(other)
    return one.keys() == other.keys() and all(torch.equal(t, other[key]) for key, t in one.items())


@pytest.mark.parametrize("name", STAGES)
@pytest.mark.parametrize("size", [1, 63, 64, 65, 200])
def test_a_code_comes_back_within_its_bound(name, size):
    """The bound is of each group's largest; sizes follow from shapes; zeros come back as zeros."""
    stage, bound = STAGES[name]
    chain, x = Chain((stage,)), torch.randn(size, generator=stream(size)) * 10
    code = chain.encode(x, stream(0))
    back = chain.decode(code, x)
    for here, there in zip(x.split(64), back.split(64), strict=True):
        assert ((here - there).abs() <= bound * here.abs().max()).all()
    assert sum(t.nbytes for t in code.values()) == chain.measure(size, 4)
    zeros = torch.zeros(1, size)
    assert torch.equal(chain.decode(chain.encode(zeros, stream(0)), zeros), zeros)


@pytest.mark.parametrize("bits", [2, 4, 8])
def test_rounding_has_no_bias(bits):
    """Of 4,000 codes of one group the mean is the number, within five deviations of a mean."""
    x, chain = torch.linspace(-1, 0.9, 64), Chain((Quantise(bits),))
    found = x.repeat(4000)
    back = chain.decode(chain.encode(found, stream(3)), found).view(4000, 64)
    step = 1.01 * 2 / (2**bits - 1)
    assert ((back.mean(0) - x).abs() <= 5 * step / 2 / 4000**0.5).all()


def test_the_largest_are_sent_with_their_places():
    chain = Chain((KeepLargest(0.4),), delta=True)
    x = torch.tensor([[0.5, -3.0, 0.0], [2.0, 1.0, -0.1]])
    code = chain.encode(x, stream(0))
    assert code["places"].tolist() == [1, 3, 4]
    assert code["places"].dtype == torch.int16
    assert code[CODED].tolist() == [-3.0, 2.0, 1.0]
    assert chain.decode(code, x).tolist() == [[0.0, -3.0, 0.0], [2.0, 1.0, 0.0]]


def test_what_was_sent_and_what_is_left_are_all_that_changed():
    """Also where the part is another one in every round, as with IST."""
    wire: Any = apply_wire(METHODS["fedavg"].make(TASK), FEW).wire
    axes, sender, memory, rng = MODEL.axes, CodedSender(wire, wire.up), {}, stream(5)
    update, piece, unread = Update({}), {}, make_empty_plan()
    truth = {name: torch.zeros_like(t, dtype=torch.float64) for name, t in MODEL.params.items()}
    sent = {name: t.clone() for name, t in truth.items()}
    for number in range(6):
        part = Part({"h1": torch.randperm(12, generator=rng)[:5].sort().values})
        piece = take_piece(MODEL.params, axes, part)
        job = Job(0, number, 3, Share(part), piece)
        after = {n: t + torch.randn(t.shape, generator=rng) for n, t in piece.items()}
        carry = sender.begin({"params": piece}, job, memory)
        update = sender.end(Update(after), FinishedJob(job, unread, carry, {}))
        memory = update.memory
        read = wire.read(job, Reply(3, job.share, update.piece, code=update.code))
        for total, now in ((truth, after), (sent, read.piece)):
            change = {n: (now[n] - piece[n]).double() for n in piece}
            wide = Part({"h1": part.axes["h1"]})
            zero = {n: torch.zeros_like(t) for n, t in truth.items()}
            for name, tensor in change.items():
                cut = take_piece({name: torch.arange(zero[name].numel()).view_as(zero[name])},
                                 axes, wide)[name]  # fmt: skip
                total[name].view(-1)[cut.flatten()] += tensor.flatten()
    assert count_section_bytes(update.code) < 0.2 * sum(t.nbytes for t in piece.values())
    for name in wire.choose(wire.up, MODEL.params):
        torch.testing.assert_close(
            sent[name] + memory[LEFT][name].double(), truth[name], rtol=0, atol=1e-5
        )


@pytest.mark.parametrize("name", ["diloco", "ist", "scaffold"])
def test_every_engine_gives_the_same_bits(name):
    """Processes do; stacked workers, where codes are equal too, but for rounding."""
    state, memory, told = play(name, FEW)
    for make in (lambda rows: Pool(rows, processes=2), Vectorized):
        other, kept, entries = play(name, FEW, make)
        close = torch.equal if make is not Vectorized else torch.allclose
        assert all(close(other.params[n], t) for n, t in state.params.items())
        assert flat(kept).keys() == flat(memory).keys()
        assert [(e.down_bytes, e.up_bytes) for e in entries] == [
            (e.down_bytes, e.up_bytes) for e in told
        ]


def test_letters_carry_the_codes_and_the_ledger_counts_them():
    """The bytes counted are those of the letters' tensors; who reads them has the same reply."""
    method = apply_wire(METHODS["fedavg"].make(TASK), FEW)
    job = next(make_jobs(method, initialise_state(method), [2], {}, 7))
    engine = Serial(ROWS.__getitem__)
    letter = write_job(job, {})
    read, _ = read_job(letter, lambda note, number: {})
    assert read_bytes(letter) == job.down_bytes < 0.5 * sum(t.nbytes for t in job.piece.values())
    opened = method.wire.open(read)
    assert is_equal(opened.piece, method.wire.open(job).piece)
    (reply,) = engine.map(method.solve, [opened])
    back = read_reply(write_reply(reply))
    assert read_bytes(write_reply(reply)) == reply.up_bytes == back.up_bytes
    wanted, found = method.wire.read(job, reply), method.wire.read(job, back)
    assert is_equal(wanted.piece, found.piece)
    assert found.up_bytes == reply.up_bytes


def test_what_a_question_brought_is_not_sent_again():
    """Nor counted; its worker has from the question what the code of the job would say."""
    method = apply_wire(METHODS["fedavg"].make(TASK), FEW)
    job = next(make_jobs(method, initialise_state(method), [2], {}, 7))
    opened, again = method.wire.open(job).piece, replace(job, known=frozenset({"layer1.w"}))
    letter = write_job(again, {})
    read, _ = read_job(letter, lambda note, number: {"layer1.w": opened["layer1.w"]})
    assert is_equal(method.wire.open(read).piece, opened)
    gone = sum(parts["layer1.w"].nbytes for parts in job.code.values())
    assert read_bytes(letter) == again.down_bytes == job.down_bytes - gone


def read_bytes(letter):
    return sum(t.nbytes for t in flat(read_letter(letter)[1]).values())


def test_a_difference_is_added_to_what_the_server_has():
    """What the way down rounds off moves where workers begin, and never enters the model."""
    still = replace(TASK, local=replace(TASK.local, lr=1e-30))
    method = apply_wire(METHODS["fedavg"].make(still), WireConfig(("delta", "int8"), ("int2",)))
    rounds = SynchronousRounds(method, Serial(ROWS.__getitem__), FixedCohort((0, 1)), 7)
    state, _ = rounds.advance(initialise_state(method))
    for name, tensor in MODEL.params.items():
        torch.testing.assert_close(state.params[name], tensor, rtol=1e-6, atol=1e-20)


@pytest.mark.parametrize("kind", ["sync", "buffered"])
def test_a_stop_is_invisible(tmp_path, kind):
    """Jobs under way are kept with their codes, and workers remember what they left out."""
    method = apply_wire(METHODS["diloco"].make(TASK), FEW)

    def rounds(memory):
        engine = Serial(ROWS.__getitem__, memory)
        if kind == "sync":
            return engine, SynchronousRounds(method, engine, FixedCohort((0, 1, 2)), 5)
        speeds = Speeds(values=(1.0, 2.0, 3.0, 4.0))
        schedule = Schedule("buffered", 1, speeds=speeds, change=True)
        return engine, AsynchronousRounds(method, engine, Concurrency(4, 3), 5, schedule)

    engine, played = rounds({})
    half = played.advance(played.advance(initialise_state(method))[0])[0]
    where = write_checkpoint(tmp_path, Checkpoint(half, engine.memory, 0, None, "x"))
    state, told = played.advance(played.advance(half)[0])
    kept = read_checkpoint(where, "x")
    other, played = rounds(dict(kept.memory))
    again, told_again = played.advance(played.advance(kept.state)[0])
    assert is_equal(again.params, state.params)
    assert is_equal(other.memory, engine.memory)
    assert (told.down_bytes, told.up_bytes) == (told_again.down_bytes, told_again.up_bytes)


def spoil(section, change):
    """Change one tensor of a code."""

    def spoilt(reply):
        tree = reply.code[section]
        parts = {**tree, "layer1.w": change(tree["layer1.w"])}
        return replace(reply, code={**reply.code, section: parts})

    return spoilt  # fmt: skip


HOSTILE = {
    "no code": (lambda r: replace(r, code={}), r"has the sections \[\]"),
    "a section too few": (lambda r: replace(r, code={CODED: r.code[CODED]}), "has the sections"),
    "a section too many": (lambda r: replace(r, code={**r.code, "x": {}}), "has the sections"),
    "another name": (
        lambda r: replace(r, code={**r.code, CODED: {"x": torch.zeros(1)}}), r"has \['x'\] besides",
    ),
    "plain numbers": (
        lambda r: replace(r, piece={**r.piece, "layer1.w": MODEL.params["layer1.w"]}),
        r"\['layer1.w'\] are not coded",
    ),
    "another shape": (spoil(CODED, lambda t: t[:-1]), "the levels are uint8"),
    "another type": (spoil(CODED, lambda t: t.int()), "not uint8"),
    "scales that are none": (spoil("scales", lambda t: t * torch.nan), "scales are not finite"),
    "huge scales": (spoil("scales", lambda t: t * 0 + 1e30), "norm of what it changed"),
    "a place twice": (spoil("places", lambda t: t * 0), "places are not those"),
    "a place below 0": (spoil("places", lambda t: t - 100), "places are not those"),
    "a place too high": (spoil("places", lambda t: t + 96), "places are not those"),
    "places of another type": (spoil("places", lambda t: t.long()), "not int16"),
}  # fmt: skip


@pytest.mark.parametrize("case", HOSTILE)
def test_a_hostile_code_is_refused(case):
    """With its reason; and the round goes on with the others, to the bit."""
    change, reason = HOSTILE[case]
    method = apply_wire(METHODS["fedavg"].make(TASK), FEW)

    class Hostile(Serial):
        def map(self, solve, jobs, /):
            for reply in super().map(solve, jobs):
                yield change(reply) if reply.worker == 1 else reply

    def advance(engine, cohort):
        rounds = SynchronousRounds(method, engine(ROWS.__getitem__), FixedCohort(cohort), 7)
        return rounds.advance(initialise_state(method))

    state, told = advance(Hostile, (0, 1, 2))
    assert [one.worker for one in told.refused] == [1]
    with pytest.raises(AssertionError, match=reason):
        raise AssertionError(told.refused[0].reason)
    assert is_equal(state.params, advance(Serial, (0, 2))[0].params)


def test_a_code_that_nobody_agreed_on_is_refused():
    method = METHODS["fedavg"].make(TASK)
    job = next(make_jobs(method, initialise_state(method), [0], {}, 7))
    for wire in (method.wire, apply_wire(method, WireConfig(down=("int8",))).wire):
        with pytest.raises(ValueError, match="no code was agreed on"):
            wire.read(job, Reply(0, job.share, job.piece, code={CODED: {}}))


REFUSED = {
    ("bf16", "int8"): r"say --wire.up int8",
    ("topk", "topk", "int8"): "each kind of stage stands there once",
    ("int8", "topk"): "say --wire.up topk int8",
    ("topk", "int8"): "say --wire.up delta topk int8",
    ("delta",): "say how it is written: --wire.up delta int8",
    ("zip",): r"has 'zip'; choose of \['delta'",
}


@pytest.mark.parametrize("up", REFUSED)
def test_chains_that_make_no_sense_are_refused(up):
    with pytest.raises(ValueError, match=REFUSED[up]):
        WireConfig(up).check()


def test_what_is_not_read_is_refused():
    with pytest.raises(ValueError, match=r"wire.keep=0.5 is read by the stage topk alone"):
        WireConfig(("int8",), keep=0.5).check()
    with pytest.raises(ValueError, match=r"wire.keep=0.0; choose a share"):
        replace(FEW, keep=0.0).check()
    with pytest.raises(ValueError, match=r"wire.down has 'delta'"):
        WireConfig(down=("delta", "int8")).check()
    with pytest.raises(ValueError, match="workers of dmoe send sums that must be exact"):
        apply_wire(dmoe_demo(stream(0)).method, FEW)
