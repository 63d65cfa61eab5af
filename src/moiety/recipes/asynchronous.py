"""Servers that do not wait: AsyncDrop's setting in small, and FedBuff's beside it.

arXiv:2210.16105; what was measured stands in docs/methods/asyncdrop.md.
"""

from dataclasses import replace

from moiety.core.checkpoints import CheckpointPolicy
from moiety.methods.task import LocalTraining
from moiety.recipes.options import with_options
from moiety.recipes.record import Federation, Participation, Population
from moiety.rounds.schedule import Schedule, Speeds

LEVELS = Speeds(values=(1.0, 2.0, 3.0, 4.0, 5.0))


def asyncdrop_fashion() -> Federation:
    """Twenty workers with two class shards each, eight at a time, the slowest five times slower.

    The server commits at every reply and goes half the way.
    """
    return Federation(
        methods=("asyncdrop", "fedavg"),
        data="fashion-mnist",
        rounds=400,
        evaluate_every=20,
        population=Population(
            scheme="shards", workers=20, unseen=0, anchors=0, shards=2, public=0.0,
            validation=0.0, shared_test=True, first_rows=12_000,
        ),
        participation=Participation(size=8),
        options=with_options(mlp={"hidden": (128,)}),
        local=LocalTraining(lr=0.01, momentum=0.9, batch=64, epochs=0, steps=20),
        checkpoint=CheckpointPolicy(every=100),
        schedule=Schedule("buffered", 1, rate=0.5, speeds=LEVELS),
        note=(
            "A round is a commit (schedule.size says of how many replies): compare curves by "
            "virtual time. The clock counts computing alone; a job takes as long whatever its "
            "part, unless schedule.speeds.by_size."
        ),
    )  # fmt: skip


def fedbuff_fashion() -> Federation:
    """Commit four replies at a time, weighed by their staleness, as FedBuff does."""
    schedule = Schedule("buffered", 4, staleness="polynomial", change=True, speeds=LEVELS)
    return replace(
        asyncdrop_fashion(), methods=("fedavg",), rounds=100, evaluate_every=5, schedule=schedule
    )
