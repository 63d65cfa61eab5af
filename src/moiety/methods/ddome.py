"""DDOME (FedJETs): federated experts, of which a gate gives each worker a few.

Farhat et al., *Learning to Specialize: Joint Gating-Expert Training for Adaptive MoEs in
Decentralized Settings*, arXiv:2306.08586.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from torch import Generator

from moiety.core.axes import Part
from moiety.core.memory import check_memory
from moiety.core.protocols import Method, Query
from moiety.core.solver import Descent
from moiety.core.stage import Stage
from moiety.core.streams import stream
from moiety.methods.demo import Demo, make_two_class_workers
from moiety.methods.task import Task
from moiety.models.gate_input import HIDDEN
from moiety.models.gated import EXPERT, GatedExperts, gated_experts, settle_input
from moiety.ops.optim import SGD
from moiety.serve.choose import Routed
from moiety.solve.mixture import AnchorLoss, MixtureLoss
from moiety.solve.score import TopScores
from moiety.solve.usage import weigh_by_usage
from moiety.split.gated import ANCHOR, Gated

MERGES = ("holders", "usage")
GATE = Part(names=("gate.*",))


def ddome(
    task: Task,
    begun: int | None = None,
    *,
    experts: int = 5,
    k: int = 2,
    loss: str = "probs",
    serve: str = "top1",
    gate_lr: float = 0.05,
    gate_hidden: int = 64,
    teach: bool = True,
    random: bool = False,
    from_common: bool = False,
    capacity: int = 0,
    merge: str = "holders",
    shared: bool = False,
    cover: float = 1.0,
    explore: float = 0.0,
    serve_k: int = 0,
    gate_input: str = HIDDEN,
    opens: tuple[int, ...] = (),
    lend_idle: bool = False,
) -> Method:
    """Send each worker the k experts its gate prefers; train experts and gate jointly.

    Args:
        task: what is to be learnt; needs ``common``, and has ``anchors`` or none.
        begun: rounds that are over where this method begins, of a run in which experts open:
            ``make_ddome_stages`` says it.
        experts: how many experts there are.
        k: how many a worker holds.
        loss: of the mixture: ``probs``, ``logits``, ``logits_full`` or ``sumloss``.
        serve: ``top1`` answers by the best expert at hand, ``soft`` mixes those at hand.
        gate_lr: learning rate of the gate (plain SGD).
        gate_hidden: hidden units of the gate.
        teach: anchors teach the gate which rows are their expert's.
        random: control: workers without an anchor get k experts at random.
        from_common: experts start as the common expert instead of at random.
        capacity: the most workers of a round that may hold one expert; 0 for any number.
        merge: ``holders`` averages an expert over those who held it; ``usage`` weighs each of
            them by how much its gate used the expert, on all its rows after training.
        shared: one expert more that everyone holds and trains beside its k as FedAvg trains its
            model, from the common expert on; the others learn beside it, and the gate mixes it in.
        cover: below 1, a worker holds the fewest experts that have this share of its gate's scores,
            k at most: as many as its rows touch. 1 gives everyone k.
        explore: the chance that a worker without an anchor trains random experts in a round.
        serve_k: experts of a worker at use; as many as there are let the gate choose for each row
            among all. 0 for k.
        gate_input: what the gate reads: ``hidden``, the common expert's last hidden layer;
            ``answers``, its outputs before the softmax; ``rows``, the row itself, so that nobody
            downloads the common expert; each standardised by the rows it was trained on; or
            ``raw``, the hidden layer as it is.
        opens: rounds after which the last experts open, one number each, none below the one before;
            the others are open from the start. Who is closed is held by nobody, scored 0, and
            serves nobody; its anchor is until then a worker like others, asked what it prefers.
        lend_idle: an expert that nobody of a round would hold goes to a worker without an anchor,
            at random, in place of the last of its choice, if another holds that.
    """
    check_ddome(task, experts, k, merge, capacity, teach=teach)
    check_choosing(experts, cover, explore, serve_k, chosen=not (random or capacity))
    most = experts - count_closed(opens, begun, experts, task.rounds)
    more, k, served = int(shared), min(k, most), min(serve_k or k, most)
    task = settle_task(task, gate_input, most)
    model = make_expert_mixture(task, experts, gate_hidden, from_common=from_common, shared=more)
    model = replace(model, closed=tuple(range(most, experts)))
    solve = make_mixture_solver(task, model, loss, gate_lr, teach=teach, shared=more)
    asks = Query(TopScores(model, k, capacity > 0, more, cover), GATE, frozenset(task.anchors))
    return Method(
        "ddome", model, merge=task.choose_merge(), query=None if random else asks,
        split=Gated(EXPERT, k, task.anchors, capacity or None, random, experts + more, more,
                    explore, experts - most, lend_idle),
        solve=weigh_by_usage(solve, model, EXPERT) if merge == "usage" else solve,
        serve=Routed(model, served, serve, task.objective, more, cover),
        transform=model.common, gated=EXPERT, constants=model.constants,
    )  # fmt: skip


def make_ddome_stages(
    task: Task, *, opens: tuple[int, ...] = (), **choices: Any
) -> Sequence[Stage]:
    """Make the stages of a run: one for the rounds between two openings of experts.

    Args:
        task: what is to be learnt.
        opens: rounds after which the last experts open.
        choices: the other options of ``ddome``.
    """
    begins = sorted({0, *opens})
    ends = [*begins[1:], task.rounds]
    return [
        Stage(ddome(task, begun, opens=opens, **choices), end - begun)
        for begun, end in zip(begins, ends, strict=True)
    ]


def make_mixture_solver(
    task: Task, model: GatedExperts, kind: str, gate_lr: float, *, teach: bool, shared: int
) -> Descent:
    """Make the local training of experts, and of the gate by plain SGD of its own rate."""
    losses = {
        "": MixtureLoss(model, task.objective, kind, shared),
        ANCHOR: AnchorLoss(model, task.objective, teach, shared),
    }
    rules = (("gate.*", SGD(gate_lr)),)
    return task.local.make_solver(
        losses, task.rounds, model=task.model, rules=rules, frozen=model.buffers
    )


def count_closed(opens: Sequence[int], begun: int | None, experts: int, rounds: int) -> int:
    """Count the experts that are closed where a stage begins.

    Args:
        opens: rounds after which the last experts open.
        begun: rounds that are over there; None for a method that is no stage.
        experts: how many there are.
        rounds: of the run.

    Raises:
        ValueError: for openings that are none, and for some of a method that is no stage.
    """
    if not opens:
        return 0
    if begun is None:
        raise ValueError(
            f"ddome.opens={tuple(opens)} makes stages of a run, which a recipe plays (moiety run); "
            "a method by itself has all its experts open: leave it out"
        )
    if len(opens) >= experts:
        raise ValueError(
            f"ddome.opens={tuple(opens)} closes {len(opens)} of {experts} experts at the start; "
            "leave one open at least, or raise ddome.experts"
        )
    if list(opens) != sorted(opens) or not 1 <= opens[0] <= opens[-1] < rounds:
        raise ValueError(
            f"ddome.opens={tuple(opens)} are rounds after which the last experts open; choose "
            f"numbers from 1 to {rounds - 1}, none below the one before: the run has {rounds}"
        )
    return sum(opened > begun for opened in opens)


def check_ddome(
    task: Task, experts: int, k: int, merge: str, capacity: int, *, teach: bool
) -> None:
    """Refuse choices that are none, and numbers that do not fit each other."""
    if merge not in MERGES:
        raise ValueError(f"ddome.merge={merge!r}; choose one of {MERGES}")
    if not 1 <= k <= experts:
        raise ValueError(f"{k=} experts per worker, but the model has {experts}; choose fewer")
    if capacity < 0:
        raise ValueError(f"ddome.{capacity=} workers an expert; choose at least 1, or 0 for any")
    if not teach and not task.anchors:
        raise ValueError(
            "ddome.teach=False is about anchors, of which there are none; leave it out "
            "(--ddome.no-teach), or raise population.anchors"
        )
    if task.local.optimizer_state == "keep":
        raise ValueError(
            "optimizer_state='keep' keeps what a worker has for a fixed part, but ddome gives "
            "other experts each round; use 'reset' or 'send'"
        )
    wrong = {worker: e for worker, e in task.anchors.items() if not 0 <= e < experts}
    if wrong:
        raise ValueError(
            f"anchors {wrong} name experts that are not among 0..{experts - 1}: each anchor has "
            "one of its own; raise ddome.experts, or lower population.anchors"
        )


def check_choosing(
    experts: int, cover: float, explore: float, serve_k: int, *, chosen: bool
) -> None:
    """Refuse ways to choose experts that are none, or that nothing reads.

    Args:
        experts: how many there are.
        cover: share of scores.
        explore: chance.
        serve_k: experts at use.
        chosen: whether workers choose by themselves in training.
    """
    if not 0 < cover <= 1:
        raise ValueError(f"ddome.{cover=} is a share of scores; choose one above 0 and up to 1")
    if not 0 <= explore < 1:
        raise ValueError(f"ddome.{explore=} is a chance; choose one of at least 0 and below 1")
    if not 0 <= serve_k <= experts:
        raise ValueError(f"ddome.{serve_k=}, but the model has {experts} experts; choose 0 for k, "
                         f"or up to {experts}")  # fmt: skip
    if not chosen and (cover < 1 or explore):
        raise ValueError(f"ddome.{cover=} and {explore=} are for workers that choose by their "
                         "gate, but with ddome.random or ddome.capacity they do not; leave them "
                         "out")  # fmt: skip


def settle_task(task: Task, gate_input: str, most: int) -> Task:
    """Settle what the gate reads of a task's common expert, and whose expert is open.

    Args:
        task: what is to be learnt.
        gate_input: what the gate reads.
        most: how many experts are open, the first ones.

    Raises:
        ValueError: where there is none, or that cannot be read.
    """
    if task.common is None:
        raise ValueError(
            "ddome needs a common expert: Task(common=common_expert(model, trained, rows)); "
            "the recipes train one on rows set apart"
        )
    anchors = {worker: expert for worker, expert in task.anchors.items() if expert < most}
    return replace(task, common=settle_input(task.common, gate_input), anchors=anchors)


def make_expert_mixture(
    task: Task, experts: int, hidden: int, *, from_common: bool, shared: int = 0
) -> GatedExperts:
    """Build the model: fresh experts, fresh gate, frozen common expert.

    Those that are shared lie behind the others and start as the common expert.
    """
    assert task.common is not None
    if hidden < 1:
        raise ValueError(f"ddome.gate_hidden={hidden} units of the gate; choose at least 1")
    size = sum(t.numel() * t.element_size() for t in task.model.params.values())
    check_memory(experts * size, f"{experts=} of {size} bytes each", "choose fewer or smaller ones")
    starts = [
        task.common.params
        if from_common or place >= experts
        else task.model.redraw(stream(task.seed, "expert", place))
        for place in range(experts + shared)
    ]
    rng = stream(task.seed, "gate")
    return gated_experts(task.model, task.common, starts, rng, hidden=hidden)


def demo(rng: Generator) -> Demo:
    """Learn blobs of which each worker has two classes."""
    task, data = make_two_class_workers(rng)
    return Demo(ddome(task, experts=3), data)
