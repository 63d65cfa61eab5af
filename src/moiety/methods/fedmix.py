"""FedMix: a federated mixture of experts, all of them at every worker.

Reisser et al., *Federated Mixture of Experts*, arXiv:2107.06724, in the form in which
arXiv:2306.08586 compares with it: the gate reads the common expert's embedding.
"""

from dataclasses import replace

from torch import Generator

from moiety.core.protocols import Method
from moiety.methods.ddome import ddome
from moiety.methods.demo import Demo, make_two_class_workers
from moiety.methods.task import Task
from moiety.split.whole import Whole


def fedmix(
    task: Task,
    *,
    experts: int = 2,
    gate_lr: float = 0.05,
    gate_hidden: int = 64,
    from_common: bool = True,
) -> Method:
    """Send all experts and their gate to everyone, train them jointly, and mix what they say.

    Args:
        task: what is to be learnt; needs ``common``. Nobody is an anchor.
        experts: how many; bytes grow with them.
        gate_lr: learning rate of the gate (plain SGD).
        gate_hidden: hidden units of the gate.
        from_common: experts start as the common expert, as in the comparison.
    """
    mixture = ddome(
        replace(task, anchors={}),
        experts=experts,
        k=experts,
        serve="soft",
        gate_lr=gate_lr,
        gate_hidden=gate_hidden,
        from_common=from_common,
    )
    return replace(mixture, name="fedmix", query=None, split=Whole())


def demo(rng: Generator) -> Demo:
    """Learn blobs of which each worker has two classes."""
    task, data = make_two_class_workers(rng)
    return Demo(fedmix(task, from_common=False), data)
