"""Distributed mixtures of experts: one exchange, and what federated averaging does in one.

arXiv:2312.09877; what was measured stands in docs/methods/mixtures.md.
"""

from moiety.core.checkpoints import CheckpointPolicy
from moiety.methods.task import LocalTraining
from moiety.recipes.options import with_options
from moiety.recipes.record import (
    CommonExpert,
    Federation,
    Participation,
    Population,
)


def dmoe_breast_cancer() -> Federation:
    """Breast cancer, four workers with some 70 rows each, all in the one round."""
    return Federation(
        methods=("dmoe", "fedavg", "fedprox", "common"),
        data="breast-cancer",
        rounds=1,
        seeds=3,
        population=Population(scheme="iid", workers=4, unseen=1, anchors=0, public=0.1),
        participation=Participation(size=4),
        net="linear",
        common=CommonExpert(target_accuracy=0.99),
        local=LocalTraining(lr=0.5, batch=16, epochs=20),
        checkpoint=CheckpointPolicy(every=1),
        options=with_options(dmoe={"experts": 2, "ridge": 1e-2, "support": 16}),
        note=(
            "One round: every method may exchange once. FedAvg and FedProx train a linear "
            "classifier for 20 passes in it, on columns in the recipe's scale; the mixtures are "
            "fitted on columns standardised by each worker. Of their lead that is a part, and so "
            "is that one round is few for averaging: docs/methods/mixtures.md has the controls."
        ),
    )
