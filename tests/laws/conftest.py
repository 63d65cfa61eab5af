"""What the laws run over: every registered method, some variants of them, and every engine."""

from collections.abc import Callable, Iterator, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, field, replace

import pytest
import torch
from torch import Tensor, nn

from moiety.core.axes import take_piece
from moiety.core.protocols import Method
from moiety.core.rows import Rows, TableRows, TransformedRows, sample_rows, take_all_rows
from moiety.core.state import Job, Reply, State
from moiety.core.streams import stream
from moiety.core.types import Memory, Params
from moiety.data.graph import GraphRows
from moiety.engine.pool import Pool
from moiety.engine.serial import Serial
from moiety.engine.vectorized import Vectorized
from moiety.methods import METHODS
from moiety.methods.ddome import ddome
from moiety.methods.demo import Demo, make_similar_workers, make_two_class_workers
from moiety.methods.fedavg import fedavg
from moiety.methods.fedopt import fedopt
from moiety.methods.ist import ist
from moiety.methods.task import LocalTraining, Task
from moiety.models.mlp import mlp
from moiety.models.module import from_module
from moiety.models.normed import normed
from moiety.rounds.synchronous import initialise_state, make_jobs, play_round, query_jobs
from moiety.server.optimizers import PseudoGradientServer, fedyogi
from moiety.solve.sgd import OWN
from moiety.split.nested import Nested

SEED = 3


def vary(change: Callable[[Task], Method]) -> Callable[[torch.Generator], Demo]:
    """Build another demo on the blobs of the registered ones."""

    def demo(rng: torch.Generator) -> Demo:
        task, data = make_two_class_workers(rng)
        return Demo(change(task), data)

    return demo


def nested(task: Task) -> Method:
    """Give workers of unequal means unequal widths, as HeteroFL does; two axes cut one tensor."""
    model = mlp((8, 6, 5, 6), stream(task.seed, "first"))
    split = Nested({"h1": 6, "h2": 5}, lambda worker: (0.34, 0.5, 1.0)[worker % 3])
    return replace(fedavg(replace(task, model=model)), split=split)


def busy(task: Task) -> Method:
    """Use every choice of local training at once."""
    local = LocalTraining(
        "adamw", 0.02, weight_decay=0.01, batch=16, epochs=2, steps=5, clip=1.0, accumulate=3,
        lr_schedule="cosine", warmup=1.0, by_rows=True, optimizer_state="keep",
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
    task, data = make_similar_workers(rng)
    task = replace(task, model=normed((8, 12, 12, 6), stream(0, "net")), workers=len(data))
    return Demo(
        ist(replace(task, local=LocalTraining("adam", 0.02, optimizer_state="send", steps=4))),
        data,
    )


VARIANTS: Mapping[str, Callable[[torch.Generator], Demo]] = {
    "ddome-capacity": vary(lambda task: ddome(task, experts=3, capacity=2)),
    "ddome-yogi": vary(
        lambda task: replace(ddome(task, experts=3), server=PseudoGradientServer(fedyogi(0.05)))
    ),
    "ddome-usage": vary(lambda task: ddome(task, experts=3, merge="usage")),
    "ddome-random": vary(lambda task: ddome(replace(task, anchors={}), experts=3, random=True)),
    "fedopt-nesterov": vary(lambda task: fedopt(task, server="nesterov", server_lr=0.3)),
    "ist-carry": carrying,
    "ist-quota": vary(lambda task: ist(replace(task, workers=6), assignment="quota", keep=0.5)),
    "ist-bernoulli": vary(lambda task: ist(task, assignment="bernoulli", keep=0.6)),
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
        return (
            beneath
            if self.method.transform is None
            else TransformedRows(beneath, self.method.transform)
        )

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
    def cohort(self) -> list[int]:
        return sorted(self.data)

    def cohorts(self, rounds: int) -> list[list[int]]:
        """Give every round another roster: all, then the odd ones, then some of each."""
        return [[self.cohort, [1, 3, 5], [4, 0, 2, 5]][place % 3] for place in range(rounds)]

    def begin(self) -> State:
        return initialise_state(self.method)

    def play(self, engine, state: State, rounds: int) -> State:
        for cohort in self.cohorts(state.round + rounds)[state.round :]:
            state = play_round(self.method, engine, state, cohort, SEED)
        return state

    def asked(self, engine, state: State, cohort: Sequence[int]) -> tuple[list[Job], list[Reply]]:
        """Ask the probe; empty where there is none."""
        jobs = list(query_jobs(self.method, state, cohort, SEED))
        query = self.method.query
        return jobs, list(engine.map(query.solve, jobs)) if query else []

    def jobs(self, engine, state: State, cohort: Sequence[int] | None = None) -> list[Job]:
        """Ask, split, cut."""
        cohort = self.cohort if cohort is None else cohort
        _, replies = self.asked(engine, state, cohort)
        answers = {reply.worker: reply.answer for reply in replies}
        return list(make_jobs(self.method, state, cohort, answers, SEED))

    def accuracy(self, state: State, memory: Mapping[int, Memory]) -> float:
        """Serve every worker its own rows; a personal head comes from the worker's memory."""
        rows_of, serve, right = self.open(), self.method.serve, []
        whole = self.method.calibrate(state.params, sample_rows(rows_of, self.cohort, 120, SEED))
        for worker in self.cohort:
            params = {**whole, **memory.get(worker, {}).get(OWN, {})}
            part = serve.choose(params, rows_of(worker))
            piece = take_piece(params, self.method.model.axes, part)
            batch = take_all_rows(rows_of(worker))
            told, y = serve.objective.select(serve.scores(piece, batch, part.axes), batch["y"])
            right.append((serve.objective.decide(told) == y).double().mean())
        return float(torch.stack(right).mean())

    def without_labels(self) -> "Case":
        """Take the labels away from every worker."""
        bare = {
            w: replace(rows, table={n: c for n, c in rows.table.items() if n != "y"})
            for w, rows in self.data.items()
            if isinstance(rows, TableRows | GraphRows)
        }
        return replace(self, data=bare)


def make(name: str) -> Case:
    """Build a case by name."""
    try:
        demo = DEMOS[name](stream(SEED, "demo"))
    except ImportError as error:  # of an extra
        pytest.skip(str(error))
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


@pytest.fixture(scope="session")
def every() -> Mapping[str, Callable[[], Case]]:
    """Give all demos and variants at once, for tests that start processes for many."""
    return {name: (lambda name=name: make(name)) for name in DEMOS}
