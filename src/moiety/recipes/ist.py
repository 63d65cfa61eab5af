"""Independent subnet training beside what it is measured against."""

from moiety.core.checkpoints import CheckpointPolicy
from moiety.methods.task import LocalTraining
from moiety.recipes.options import with_options
from moiety.recipes.record import Federation, Participation, Population


def ist_fashion() -> Federation:
    """Assign two wide hidden layers to four workers with equal shares of Fashion-MNIST.

    Twenty local steps a round, 600 in all; every method whose round is not one step makes as many
    on the same rows, and the official test part is the test of all.
    """
    return Federation(
        methods=("ist", "local_sgd"),
        data="fashion-mnist",
        rounds=30,
        population=even_population(4, first_rows=12_000),
        participation=Participation(size=4),
        net="normed",
        options=with_options(normed={"hidden": (512, 512)}),
        local=LocalTraining(lr=0.05, momentum=0.0, batch=64, epochs=0, steps=20),
        checkpoint=CheckpointPolicy(every=10),
        note=(
            "Equal local steps, not equal cost: a worker of ist holds, computes and sends part of "
            "the network. moiety plan says how much of it, docs/methods/ist.md when that pays. "
            "data_parallel makes one step a round: for equal steps run it apart, with --rounds of "
            "rounds times local.steps. diloco takes AdamW at the learning rate of all: run it "
            "apart, with --local.lr 0.001."
        ),
    )


def ist_digits() -> Federation:
    """Assign a small network on the digits, in seconds."""
    return Federation(
        methods=("ist", "local_sgd"),
        data="digits",
        rounds=30,
        seeds=3,
        population=even_population(4),
        participation=Participation(size=4),
        net="normed",
        options=with_options(normed={"hidden": (128, 128)}),
        local=LocalTraining(lr=0.05, momentum=0.0, batch=32, epochs=0, steps=20),
        checkpoint=CheckpointPolicy(every=10),
        note=ist_fashion().note,
    )


def even_population(workers: int, first_rows: int = 0) -> Population:
    """Assign all rows evenly, and test on one set for all."""
    return Population(
        scheme="iid",
        workers=workers,
        unseen=0,
        anchors=0,
        public=0.0,
        validation=0.0,
        shared_test=True,
        first_rows=first_rows,
    )
