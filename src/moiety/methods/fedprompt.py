"""FedPrompt: one prompt in front of a frozen language model, averaged over workers.

Zhao et al., *FedPrompt: Communication-Efficient and Privacy Preserving Prompt Tuning in Federated
Learning*, arXiv:2208.12268.
"""

from __future__ import annotations

from dataclasses import replace

from torch import Generator

from moiety.core.protocols import Method
from moiety.methods.demo import Demo
from moiety.methods.fedavg import fedavg
from moiety.methods.mops import find_prompts, make_skill_workers
from moiety.methods.task import LocalTraining, Task


def fedprompt(task: Task, *, deep: bool = False) -> Method:
    """Train one prompt without a gate at every worker and average.

    Args:
        task: what is to be learnt; its model is a language model with prompts, of which this takes
            the frozen part and as many prompts.
        deep: prompts in every block where the model's are, in place of the input alone.
    """
    model = find_prompts(task).make_single(deep=deep)
    return replace(fedavg(replace(task, model=model, start=None)), name="fedprompt")


def demo(rng: Generator) -> Demo:
    """Learn what is to be said to requests of one skill."""
    task, data = make_skill_workers(rng, kinds=1)
    task = replace(task, local=LocalTraining(lr=3.0, batch=6, epochs=2))
    return Demo(fedprompt(task), data)
