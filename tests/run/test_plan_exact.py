"""What ``moiety plan`` says beside what a run does: graphs, gates, mixtures."""

import json
from dataclasses import replace
from functools import partial

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes
from torch.utils.flop_counter import FlopCounterMode

from moiety.blocks.memory import MemoryMeter
from moiety.core.ledger import read_ledger
from moiety.data import datasets
from moiety.data.dataset import Dataset
from moiety.data.graph import Graph, mirror_edges
from moiety.engine.batches import read_batches
from moiety.engine.serial import Serial
from moiety.engine.work import compute_gradient
from moiety.plan.costs import Setting, forecast_round, profile_round
from moiety.plan.count import Link
from moiety.plan.outline import abstract_run
from moiety.recipes import RECIPES
from moiety.recipes.build import build_run
from moiety.recipes.options import make_method, with_options
from moiety.recipes.record import Participation, Subgraphs
from moiety.rounds.synchronous import initialise_state, make_jobs, play_round
from moiety.run.commands.plan import draw_first_cohort
from moiety.run.loop import LEDGER
from moiety.wire.config import WireConfig

FAST = ("--flops", "5e9")


def played(lab, record, method):
    """Play a run and give what its first round cost: bytes in all, down, up; the workers' work."""
    (first, *_) = read_ledger(lab.play(record, method, method) / LEDGER).rounds
    return first


def planned(record, method):
    """Forecast a method for those who take part in the first round."""
    plan = abstract_run(record, record.seed, partial(draw_first_cohort, record))
    return plan, forecast_round(method, plan, Setting(Link(), flops=1e9))


def counted(record, method, plan):
    """Count the operations of a first round that is played, by torch's counter and by hand.

    A sparse product counts 2 for each edge and column; torch leaves it out on the way there and
    takes it for a dense one on the way back.
    """
    built = build_run(record, method, record.seed)
    engine, products = Serial(built.open), Products()
    for worker in plan.rows:
        built.open(worker)  # embeddings are computed once, and in no round
    with FlopCounterMode(display=False) as counter, products:
        play_round(
            built.method, engine, initialise_state(built.method), sorted(plan.rows), record.seed
        )
    return counter.get_total_flops() + products.flops


class Products(TorchDispatchMode):
    """Does sparse products out of sight of another counter, and counts them."""

    flops = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        matrix = next((one for one in args if isinstance(one, Tensor) and one.is_sparse), None)
        if matrix is None or func.overloadpacket not in (torch.ops.aten.mm, SPARSE):
            return func(*args, **(kwargs or {}))
        self.flops += 2 * matrix._values().numel() * args[-1].shape[1]
        with _disable_current_modes():
            return func(*args, **(kwargs or {}))


SPARSE = torch.ops.aten._sparse_addmm


def test_ddome_is_planned_exactly_as_the_ledger_has_it(lab):
    """The recipe quickstart: bytes of every round, by worker, and operations of the first."""
    record = replace(RECIPES["quickstart"].record, rounds=3, evaluate_every=3, engine="serial")
    plan, told = planned(record, "ddome")
    rounds = read_ledger(lab.play(record, "ddome") / LEDGER).rounds
    for entry in rounds:
        assert entry.down_bytes + entry.up_bytes == told.traffic.total
        assert max(work.down_bytes for work in entry.workers) == told.traffic.into
        assert max(work.up_bytes for work in entry.workers) == told.traffic.out
    assert {work.worker for work in rounds[0].workers} == set(plan.rows)
    assert told.flops_all == counted(record, "ddome", plan)
    with torch.device("meta"):
        method = make_method("ddome", plan.task, record.options)
    found, _ = profile_round(method, plan)
    for work in rounds[0].workers:
        mine = found[work.worker]
        assert (work.down_bytes, work.up_bytes) == (mine.down_bytes, mine.up_bytes)
        assert work.steps == mine.steps


@pytest.mark.parametrize(
    "options",
    [{"capacity": 4}, {"random": True}, {"k": 1, "loss": "logits"}, {"from_common": True}],
)
def test_ddome_with_other_options_is_planned_as_well(tiny, lab, options):
    record = tiny(rounds=1, evaluate_every=1, ddome=options)
    plan, told = planned(record, "ddome")
    entry = played(lab, record, "ddome")
    assert entry.down_bytes + entry.up_bytes == told.traffic.total
    assert told.flops_all == counted(record, "ddome", plan)


@pytest.mark.parametrize("method", ["ddome", "ist"])
def test_codes_are_planned_exactly(tiny, lab, method):
    """Of answers and of jobs, with what is sent as it is; sizes follow from shapes."""
    wire = {"up": ("delta", "topk", "int4"), "down": ("int8",), "keep": 0.1}
    record = tiny(rounds=1, evaluate_every=1, wire=wire)
    _, told = planned(record, method)
    entry = played(lab, record, method)
    assert entry.down_bytes + entry.up_bytes == told.traffic.total
    plain = planned(replace(record, wire=WireConfig()), method)[1]
    assert told.traffic.total < plain.traffic.total / 2


def test_a_mixture_is_planned_by_its_bytes_alone(moiety, lab):
    """EM stops where the likelihood says so; what it sends is known."""
    record = replace(RECIPES["dmoe-breast"].record, seeds=1, engine="serial")
    found = moiety("plan", "dmoe-breast", *FAST)
    assert "dmoe: bytes alone: its workers work until their numbers say stop" in found.out
    (line,) = (line.split() for line in found.out.splitlines() if line.startswith("dmoe  "))
    assert line[1:3] == ["-", "-"]
    told = json.loads(moiety("plan", "dmoe-breast", *FAST, "--json").out)["traffic"]["dmoe"]
    entry = played(lab, record, "dmoe")
    assert entry.down_bytes + entry.up_bytes == told["total"]
    assert max(work.up_bytes for work in entry.workers) == told["out"]


@pytest.fixture
def graphs(monkeypatch):
    """Give a record of a run on a small graph, whole or in clusters of which a step takes some."""
    rng = torch.Generator().manual_seed(3)
    nodes, y = 90, torch.arange(90) % 3
    x = torch.randn(nodes, 12, generator=rng)
    ends = torch.randint(nodes, (2, 300), generator=rng)
    edges = mirror_edges(ends[:, ends[0] < ends[1]].unique(dim=1))
    third = torch.arange(nodes) % 5
    graph = Graph(edges, third == 0, third == 1, torch.zeros(nodes, dtype=torch.long))
    data = Dataset("ring", x, y, ("a", "b", "c"), test=third > 1, graph=graph)
    monkeypatch.setitem(
        datasets.DATASETS, "ring", replace(datasets.DATASETS["cora"], load=lambda: data)
    )

    def make_record(kind, clusters, batch, **local):
        cora = RECIPES["gist-cora"].record
        return replace(
            cora, data="ring", rounds=2, evaluate_every=2, seeds=1, engine="serial",
            net=kind, options=with_options(**{kind: {"hidden": (16, 12), "dropout": 0.5}}),
            graph=Subgraphs(clusters=clusters),
            local=replace(cora.local, steps=5, batch=batch, **local),
            population=replace(cora.population, workers=3), participation=Participation(size=3),
        )  # fmt: skip

    return make_record


@pytest.mark.parametrize("method", ["gist", "local_sgd", "data_parallel", "ist"])
@pytest.mark.parametrize(("kind", "clusters", "batch"), [("gcn", 1, 1), ("sage", 7, 3)])
def test_graphs_are_planned_exactly(graphs, lab, kind, clusters, batch, method):
    """Bytes as the ledger has them; operations as torch and a count of edges have them."""
    record = graphs(kind, clusters, batch)
    plan, told = planned(record, method)
    entry = played(lab, record, method)
    assert entry.down_bytes + entry.up_bytes == told.traffic.total
    assert told.flops_all == counted(record, method, plan)


def alive(built, job):
    """Count the bytes of tensors alive in a worker's steps, with what there was before, at most."""
    solve, rows, most = built.method.solve, built.open(job.worker), 0
    for batch, lr in read_batches(
        rows, solve.plan(rows.size, job), draws_noise=not solve.stackable
    ):
        carry = solve.start(job, {})
        params = {name: t.clone().requires_grad_() for name, t in carry["params"].items()}
        with MemoryMeter() as peak:
            for group in (params, carry["frozen"], batch, *carry["optimizer_state"].values()):
                for tensor in group.values():
                    peak.count_tensor(tensor)
            grads, _ = compute_gradient(solve, {**carry, "params": params}, batch, job.share.role)
            with torch.no_grad():
                solve.move_in_place({**carry, "params": params}, grads, lr)
        most = max(most, peak.most)
    return most


@pytest.mark.parametrize("method", ["gist", "local_sgd"])
@pytest.mark.parametrize(("kind", "clusters", "batch"), [("gcn", 1, 1), ("sage", 7, 3)])
def test_memory_of_graphs_is_what_is_alive_in_a_step(graphs, kind, clusters, batch, method):
    record = graphs(kind, clusters, batch)
    plan, told = planned(record, method)
    built = build_run(record, method, record.seed)
    jobs = make_jobs(built.method, initialise_state(built.method), list(plan.rows), {}, record.seed)
    found = max(alive(built, job) for job in jobs)
    assert found == pytest.approx(told.memory_bytes, rel=0.15)


def test_operations_of_a_graph_net_by_hand(graphs):
    """Layers D to 16 to 12 to 3 on N nodes: dense 6 N sum D H - 2 N D_0 H_1, sparse 4 E sum H."""
    record = graphs("gcn", 1, 1)
    plan, told = planned(record, "local_sgd")
    batch = next(iter(plan.rows.values())).take(torch.tensor([0]))
    edges, nodes = batch["edges"].shape[1] + 90, 90  # each node is its own neighbour
    dense = 6 * nodes * (12 * 16 + 16 * 12 + 12 * 3) - 2 * nodes * 12 * 16
    assert told.cost.step_flops == dense + 4 * edges * (16 + 12 + 3)


def test_a_subgraph_is_walked_as_it_was_drawn(graphs):
    """Clusters are unlike, so that steps are: a worker's sum is no multiple of its largest."""
    record = graphs("sage", 7, 3)
    _, told = planned(record, "gist")
    assert told.cost.steps * told.cost.step_flops > told.cost.flops


def test_a_graph_compares_gist_and_not_ist(graphs, moiety):
    graphs("gcn", 1, 1)  # the data set 'ring' is there
    found = moiety("plan", "gist-cora", *FAST, "--data", "ring", "--graph.project", "0")
    assert [line.split()[0] for line in found.out.splitlines()[2:6]] == [
        "method", "gist", "local_sgd", "data_parallel"
    ]  # fmt: skip
    assert "choose gist" in found.out
