"""Graph networks whose hidden features are assigned, beside local SGD on whole ones."""

from dataclasses import replace

from moiety.core.checkpoints import CheckpointPolicy
from moiety.methods.task import LocalTraining
from moiety.recipes.options import with_options
from moiety.recipes.record import (
    Federation,
    Participation,
    Population,
    Subgraphs,
)


def gist_cora() -> Federation:
    """Give a three-layer GCN on Cora to four workers: 5 rounds of 20 steps are 100 epochs each."""
    return Federation(
        methods=("gist", "local_sgd"),
        data="cora",
        rounds=5,
        seeds=3,
        population=Population(
            scheme="all",
            workers=4,
            unseen=0,
            anchors=0,
            public=0.0,
            validation=0.0,
            shared_test=True,
        ),
        participation=Participation(size=4),
        net="gcn",
        options=with_options(gcn={"hidden": (256, 256), "dropout": 0.5}),
        graph=Subgraphs(project=512),
        local=LocalTraining(
            "adam", lr=0.01, weight_decay=5e-4, batch=1, epochs=0, steps=20, lr_schedule="steps"
        ),
        checkpoint=CheckpointPolicy(every=5),
        note=(
            "Every worker sees the whole graph. Methods make equal local steps, not equal cost: "
            "moiety plan says what a worker of each method holds, computes and sends."
        ),
    )


def gist_coauthor_cs() -> Federation:
    """Assign GraphSAGE on Coauthor CS, cut into 30 clusters of which a step takes ten."""
    return replace(
        gist_cora(),
        data="coauthor-cs",
        net="sage",
        options=with_options(sage={"hidden": (256, 256), "dropout": 0.5}),
        graph=Subgraphs(clusters=30, project=512),
        local=replace(gist_cora().local, batch=10),
    )
