"""Prompts of a frozen language model over workers whose requests are of one skill each."""

from moiety.core.checkpoints import CheckpointPolicy
from moiety.data.skills import NAME
from moiety.methods.task import LocalTraining
from moiety.recipes.options import with_options
from moiety.recipes.record import Federation, Participation, Population


def mops_records() -> Federation:
    """Start with a tiny Llama and made-up requests; a model and records of one's own do as well.

    The gate is taught on rows set apart, by their skill. A worker's test rows are of its own skill.
    """
    return Federation(
        methods=("mops", "fedprompt", "common"),
        data=NAME,
        net="lm",
        rounds=30,
        population=Population(
            scheme="classes", workers=8, unseen=0, classes=1, anchors=0, public=0.2
        ),
        participation=Participation(size=4),
        local=LocalTraining(optimizer="adam", lr=0.3, batch=8, epochs=0, steps=5),
        checkpoint=CheckpointPolicy(every=10),
        options=with_options(lm={"attention": "eager"}),
        note=(
            "Without --lm.folder FOLDER the language model is a tiny one whose numbers were drawn, "
            "not trained, and without --data FILE its records are made up: that shows how a run "
            "looks, not how good prompts are. fedprompt is one prompt in front of the input; "
            "common is where mops starts."
        ),
    )
