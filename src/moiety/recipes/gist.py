"""Graph networks whose hidden features are dealt, beside local SGD on whole ones."""

from dataclasses import replace

from moiety.methods.task import Local
from moiety.recipes.record import Federation, Keeping, Net, Population, Subgraphs, Turnout


def cora() -> Federation:
    """Deal a three-layer GCN on Cora to four workers: 5 rounds of 20 steps are 100 epochs each."""
    return Federation(
        methods=("gist", "local_sgd"),
        data="cora",
        rounds=5,
        evaluate_every=1,
        seeds=3,
        population=Population(
            scheme="all", workers=4, unseen=0, anchors=0, public=0.0, validation=0.0, together=True
        ),
        turnout=Turnout(size=4),
        net=Net("gcn", hidden=(256, 256), dropout=0.5),
        graph=Subgraphs(project=512),
        local=Local(
            "adam", lr=0.01, weight_decay=5e-4, batch=1, epochs=0, steps=20, schedule="steps"
        ),
        keep=Keeping(every=5),
        note=(
            "Every worker sees the whole graph. Methods make equal local steps, not equal cost: "
            "moiety plan says what a worker of each method holds, computes and sends."
        ),
    )


def coauthor_cs() -> Federation:
    """Deal GraphSAGE on Coauthor CS, cut into 30 clusters of which a step takes ten."""
    return replace(
        cora(),
        data="coauthor-cs",
        net=Net("sage", hidden=(256, 256), dropout=0.5),
        graph=Subgraphs(clusters=30, project=512),
        local=replace(cora().local, batch=10),
    )
