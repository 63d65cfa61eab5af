"""DDOME's own problems: where small experts win, where they lose, and Fashion-MNIST.

arXiv:2306.08586; what was measured on them stands in docs/methods/ddome.md.
"""

from dataclasses import replace

from moiety.core.checkpoints import CheckpointPolicy
from moiety.methods.task import LocalTraining
from moiety.recipes.options import Options, with_options
from moiety.recipes.record import (
    CommonExpert,
    Federation,
    Participation,
    Population,
)


def choose_experts(hidden: int) -> Options:
    """Choose five experts of some hidden units, two at a worker."""
    gate = {"experts": 5, "k": 2, "gate_lr": 0.05, "gate_hidden": 64}
    return with_options(ddome=gate, mlp={"hidden": (hidden,)})


def ddome_modes() -> Federation:
    """100 workers of four labels, five experts of eight hidden units, 300 rounds."""
    return Federation(
        methods=("ddome", "fedavg", "fedprox", "common"),
        data="modes",
        rounds=300,
        seeds=3,
        population=Population(
            scheme="labels",
            workers=100,
            unseen=20,
            classes=4,
            anchors=5,
            rows=200,
            public=0.6,
            validation=0.05,
        ),
        participation=Participation(size=10, anchors=5),
        common=CommonExpert(target_accuracy=0.6, lr=0.02, batch=64),
        local=LocalTraining(lr=0.05, batch=32),
        checkpoint=CheckpointPolicy(every=100),
        options=choose_experts(hidden=8),
    )


def ddome_modes_wide() -> Federation:
    """Give one model room for all labels (64 hidden units), in more noise; averaging it wins."""
    base = ddome_modes()
    return replace(
        base,
        data="modes-noisy",
        rounds=100,
        options=choose_experts(hidden=64),
        common=replace(base.common, target_accuracy=0.73),
    )


def ddome_fashion() -> Federation:
    """Fashion-MNIST assigned as in the paper's CIFAR-10 setting, experts of 16 hidden units."""
    base = ddome_modes()
    return replace(
        base,
        data="fashion-mnist",
        rounds=300,
        population=replace(base.population, rows=200, public=0.1, validation=0.02),
        options=choose_experts(hidden=16),
        common=replace(base.common, target_accuracy=0.7),
    )
