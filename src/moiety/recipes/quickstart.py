"""The first run: real digits, workers of two classes, and workers that training never sees."""

from dataclasses import replace

from moiety.core.checkpoints import CheckpointPolicy
from moiety.methods.task import LocalTraining
from moiety.recipes.options import with_options
from moiety.recipes.record import (
    CommonExpert,
    Federation,
    Participation,
    Population,
)


def quickstart() -> Federation:
    """Choose small experts on purpose: then one model cannot fit all labels, and several can."""
    return Federation(
        methods=("ddome", "fedavg", "fedprox", "common"),
        data="digits",
        rounds=200,
        seeds=3,
        population=Population(scheme="labels", workers=24, unseen=6, classes=2, anchors=5, rows=80),
        participation=Participation(size=14, anchors=5),
        common=CommonExpert(target_accuracy=0.6),
        local=LocalTraining(lr=0.05, batch=16),
        checkpoint=CheckpointPolicy(every=50),
        options=with_options(ddome={"gate_lr": 0.1}, mlp={"hidden": (3,)}),
        note=(
            "The experts are small on purpose (3 hidden units): where one model of their size "
            "cannot fit all labels, several experts and a gate can; docs/methods/ddome.md maps "
            "where this wins and where it loses."
        ),
    )


def yours() -> Federation:
    """Start from this for data of your own: one wide model, and experts of the same width."""
    return replace(
        quickstart(),
        methods=("fedavg", "ddome"),
        data="",
        rounds=50,
        seeds=1,
        population=Population(scheme="dirichlet", workers=0, unseen=2, alpha=0.5, anchors=0),
        participation=Participation(size=5),
        options=with_options(ddome={"gate_lr": 0.1}, mlp={"hidden": (64,)}),
        common=CommonExpert(target_accuracy=0.95, epochs=50),
        checkpoint=CheckpointPolicy(every=10),
        note="",
    )
