"""What the laws run over: every registered method, some variants of them, and every engine."""

from collections.abc import Callable, Iterator, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, field, replace

import pytest
import torch
from torch import Tensor, nn

from moiety.core.axes import take
from moiety.core.protocols import Method
from moiety.core.rows import Rows, Seen, all_rows, some_of
from moiety.core.state import Job, Reply, State
from moiety.core.streams import stream
from moiety.core.types import Memory, Params
from moiety.engine.pool import Pool
from moiety.engine.serial import Serial
from moiety.engine.vectorized import Vectorized
from moiety.methods import METHODS
from moiety.methods.ddome import ddome
from moiety.methods.demo import Demo, alike, two_classes
from moiety.methods.fedavg import fedavg
from moiety.methods.fedopt import fedopt
from moiety.methods.ist import ist
from moiety.methods.task import Local, Task
from moiety.models.mlp import mlp
from moiety.models.module import from_module
from moiety.models.normed import normed
from moiety.rounds.synchronous import begin, dispatch, play, questions
from moiety.server.optimizers import Outer, fedyogi
from moiety.solve.sgd import OWN
from moiety.split.nested import Nested

SEED = 3


def vary(change: Callable[[Task], Method]) -> Callable[[torch.Generator], Demo]:
    """Build another demo on the blobs of the registered ones."""

    def demo(rng: torch.Generator) -> Demo:
        task, data = two_classes(rng)
        return Demo(change(task), data)

    return demo


def nested(task: Task) -> Method:
    """Give workers of unequal means unequal widths, as HeteroFL does; two axes cut one tensor."""
    model = mlp((8, 6, 5, 6), stream(task.seed, "first"))
    split = Nested({"h1": 6, "h2": 5}, lambda worker: (0.34, 0.5, 1.0)[worker % 3])
    return replace(fedavg(replace(task, model=model)), split=split)


def busy(task: Task) -> Method:
    """Use every choice of local training at once."""
    local = Local(
        "adamw", 0.02, weight_decay=0.01, batch=16, epochs=2, steps=5, clip=1.0, accumulate=3,
        schedule="cosine", warmup=1.0, by_rows=True, moments="keep",
    )  # fmt: skip
    return fedavg(replace(task, local=local))


def with_batch_norm(task: Task) -> Method:
    """Train a module with batch norm, whose rows see each other and whose buffers merge."""
    net = nn.Sequential(nn.Linear(8, 10), nn.BatchNorm1d(10), nn.ReLU(), nn.Linear(10, 6))
    model = from_module(net)
    model = replace(model, params={**model.params, **redrawn(model, task)})
    return fedavg(replace(task, model=model))


def dropping(task: Task) -> Method:
    """Train a module that draws noise."""
    net = nn.Sequential(nn.Linear(8, 12), nn.ReLU(), nn.Dropout(0.2), nn.Linear(12, 6))
    model = from_module(net)
    model = replace(model, params={**model.params, **redrawn(model, task)})
    return fedavg(replace(task, model=model))


def redrawn(model, task: Task) -> Params:
    """Draw first values from an address: a module's own come from the global generator."""
    return model.redraw(stream(task.seed, "first"))


def carrying(rng: torch.Generator) -> Demo:
    """Deal units out with the moments of Adam, which travel, under norms that couple rows."""
    task, data = alike(rng)
    task = replace(task, model=normed((8, 12, 12, 6), stream(0, "net")), workers=len(data))
    return Demo(ist(replace(task, local=Local("adam", 0.02, moments="carry", steps=4))), data)


VARIANTS: Mapping[str, Callable[[torch.Generator], Demo]] = {
    "ddome-capacity": vary(lambda task: ddome(task, experts=3, capacity=2)),
    "ddome-yogi": vary(lambda task: replace(ddome(task, experts=3), outer=Outer(fedyogi(0.05)))),
    "ddome-random": vary(lambda task: ddome(replace(task, anchors={}), experts=3, random=True)),
    "fedopt-nesterov": vary(lambda task: fedopt(task, server="nesterov", server_lr=0.3)),
    "ist-carry": carrying,
    "ist-quota": vary(lambda task: ist(replace(task, workers=6), deal="quota", keep=0.5)),
    "ist-bernoulli": vary(lambda task: ist(task, deal="bernoulli", keep=0.6)),
    "nested": vary(nested),
    "busy": vary(busy),
    "batchnorm": vary(with_batch_norm),
    "dropout": vary(dropping),
}
DEMOS = {**{name: entry.demo for name, entry in METHODS.items()}, **VARIANTS}
ENGINES = ("serial", "vectorized", "pool")
TOLERANCE = {"serial": 0.0, "pool": 0.0, "vectorized": 1e-5}


@dataclass
class Case:
    """A method on its demo problem, and ways to run it."""

    name: str
    method: Method
    data: Mapping[int, Rows]
    engines: list = field(default_factory=list)

    def open(self) -> Callable[[int], Rows]:
        """Open rows as a run does, through the method's view."""
        beneath = self.data.__getitem__
        return beneath if self.method.view is None else Seen(beneath, self.method.view)

    def engine(self, kind: str, memory: MutableMapping[int, Memory] | None = None):
        """Start an engine; it is closed when the test is over."""
        memory = {} if memory is None else memory
        made = {
            "serial": lambda: Serial(self.open(), memory),
            "vectorized": lambda: Vectorized(self.open(), memory),
            "pool": lambda: Pool(self.open(), memory, processes=2),
        }[kind]()
        self.engines.append(made)
        return made

    def again(self) -> "Case":
        """Build everything a second time, as a new process would; engines close with this."""
        return replace(make(self.name), engines=self.engines)

    @property
    def roster(self) -> list[int]:
        return sorted(self.data)

    def rosters(self, rounds: int) -> list[list[int]]:
        """Give every round another roster: all, then the odd ones, then some of each."""
        return [[self.roster, [1, 3, 5], [4, 0, 2, 5]][place % 3] for place in range(rounds)]

    def begin(self) -> State:
        return begin(self.method)

    def play(self, engine, state: State, rounds: int) -> State:
        for roster in self.rosters(state.round + rounds)[state.round :]:
            state = play(self.method, engine, state, roster, SEED)
        return state

    def asked(self, engine, state: State, roster: Sequence[int]) -> tuple[list[Job], list[Reply]]:
        """Ask the probe; empty where there is none."""
        jobs = list(questions(self.method, state, roster, SEED))
        probe = self.method.probe
        return jobs, list(engine.map(probe.solve, jobs)) if probe else []

    def jobs(self, engine, state: State, roster: Sequence[int] | None = None) -> list[Job]:
        """Ask, split, cut."""
        roster = self.roster if roster is None else roster
        _, replies = self.asked(engine, state, roster)
        hints = {reply.worker: reply.hint for reply in replies}
        return list(dispatch(self.method, state, roster, hints, SEED))

    def accuracy(self, state: State, memory: Mapping[int, Memory]) -> float:
        """Serve every worker its own rows; a personal head comes from the worker's memory."""
        rows_of, serve, right = self.open(), self.method.serve, []
        whole = self.method.calibrate(state.params, some_of(rows_of, self.roster, 120, SEED))
        for worker in self.roster:
            params = {**whole, **memory.get(worker, {}).get(OWN, {})}
            part = serve.choose(params, rows_of(worker))
            piece = take(params, self.method.model.axes, part)
            batch = all_rows(rows_of(worker))
            guess = serve.scores(piece, batch, part.axes).argmax(-1)
            right.append((guess == batch["y"]).double().mean())
        return float(torch.stack(right).mean())

    def without_labels(self) -> "Case":
        """Take the labels away from every worker."""
        bare = {
            w: replace(rows, table={n: c for n, c in rows.table.items() if n != "y"})
            for w, rows in self.data.items()
        }
        return replace(self, data=bare)


def make(name: str) -> Case:
    """Build a case by name."""
    demo = DEMOS[name](stream(SEED, "demo"))
    return Case(name, demo.method, demo.data)


def declare(request) -> None:
    """Expect a law to fail where its method declares so; a failure that ends is one as well."""
    law = request.function.__name__.removeprefix("test_")
    entry = METHODS.get(request.param)
    if entry is not None and law in entry.cannot:
        request.applymarker(pytest.mark.xfail(reason=entry.cannot[law], strict=True))


@pytest.fixture(params=list(DEMOS))
def case(request) -> Iterator[Case]:
    declare(request)
    made = make(request.param)
    yield made
    for engine in reversed(made.engines):
        engine.close()


@pytest.fixture(params=list(METHODS))
def registered(request) -> Iterator[Case]:
    """Only what is registered: variants need not learn on this problem."""
    declare(request)
    made = make(request.param)
    yield made
    for engine in reversed(made.engines):
        engine.close()


@pytest.fixture(params=ENGINES)
def kind(request) -> str:
    return request.param


@pytest.fixture
def tolerance(kind: str) -> float:
    return TOLERANCE[kind]


@pytest.fixture
def near() -> Callable[..., None]:
    """Compare mappings of tensors nested at will; a tolerance of 0 asks for equal bits."""

    def check(found, wanted, tolerance: float = 0.0, where: str = "") -> None:
        if isinstance(wanted, Mapping):
            assert set(found) == set(wanted), where
            for key in wanted:
                check(found[key], wanted[key], tolerance, f"{where}/{key}")
            return
        assert found.dtype == wanted.dtype, where
        if tolerance:
            torch.testing.assert_close(
                found, wanted, rtol=tolerance, atol=tolerance, msg=lambda m: f"{where}: {m}"
            )
        else:
            assert torch.equal(found, wanted), f"{where}: {found} is not {wanted}"

    return check


@pytest.fixture
def copied() -> Callable:
    """Copy mappings of tensors nested at will."""

    def copy(tree):
        if isinstance(tree, Tensor):
            return tree.clone()
        return {key: copy(value) for key, value in tree.items()}

    return copy


@pytest.fixture
def every() -> Mapping[str, Callable[[], Case]]:
    """Give all demos and variants at once, for tests that start processes for many."""
    return {name: (lambda name=name: make(name)) for name in DEMOS}
