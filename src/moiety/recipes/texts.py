"""Transformers of characters, assigned by heads and hidden units."""

from moiety.core.checkpoints import CheckpointPolicy
from moiety.methods.task import LocalTraining
from moiety.recipes.options import with_options
from moiety.recipes.record import Federation, Participation, Population


def ist_shakespeare() -> Federation:
    """Assign a small decoder to four workers, each with its own stretch of tiny Shakespeare.

    Twenty local steps a round, 600 in all, the moments of AdamW travelling with the pieces; the
    last tenth of the text is the test of all.
    """
    return Federation(
        methods=("ist", "local_sgd", "diloco"),
        data="shakespeare",
        rounds=30,
        population=Population(
            scheme="contiguous",
            workers=4,
            unseen=0,
            anchors=0,
            public=0.0,
            validation=0.0,
            shared_test=True,
        ),
        participation=Participation(size=4),
        net="gpt",
        options=with_options(gpt={"hidden": 256, "width": 64, "depth": 4, "heads": 8}),
        local=LocalTraining(
            optimizer="adamw",
            lr=2e-3,
            betas=(0.9, 0.95),
            weight_decay=0.01,
            batch=12,
            epochs=0,
            steps=20,
            clip=1.0,
            lr_schedule="cosine",
            floor=0.1,
            optimizer_state="send",
        ),
        checkpoint=CheckpointPolicy(every=10),
        note=(
            "Judge by perplexity, e to the loss in nats a character. Equal local steps, not equal "
            "cost: moiety plan says what a worker of each method holds, computes and sends."
        ),
    )
