"""Residual networks on CIFAR-10 at 16x16, assigned by blocks and by filters.

What was measured on them stands in docs/methods/resist.md and docs/methods/loft.md.
"""

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

TWELVE_BLOCKS = {"blocks": (1, 1, 13, 1), "channels": (8, 16, 32, 64)}


def resist_cifar() -> Federation:
    """Assign twelve residual blocks to four workers, 20 rounds of 20 steps on 10,000 images."""
    return Federation(
        methods=("resist", "local_sgd"),
        data="cifar10-small",
        rounds=20,
        population=Population(
            scheme="iid", workers=4, unseen=0, anchors=0, public=0.0, validation=0.05,
            shared_test=True, first_rows=10_000,
        ),
        participation=Participation(size=4, fixed=True),
        net="resnet",
        common=CommonExpert(),
        local=LocalTraining(
            lr=0.05, weight_decay=5e-4, batch=64, epochs=0, steps=20,
            lr_schedule="steps", drops=(0.75,), flips=True,
        ),
        checkpoint=CheckpointPolicy(every=5),
        options=with_options(resist={"least": 1}, resnet=TWELVE_BLOCKS),
    )  # fmt: skip


def loft_cifar() -> Federation:
    """Assign the filters of twelve blocks; prune half of them after 20 rounds, tune for 10."""
    base = resist_cifar()
    return replace(
        base,
        methods=("loft", "local_sgd"),
        rounds=30,
        options=with_options(
            loft={"prune": 0.5, "tune": 10}, resnet={**TWELVE_BLOCKS, "cut": "filters"}
        ),
    )
