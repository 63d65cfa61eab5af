"""What methods with several whole models share: their first values, and their descent."""

from __future__ import annotations

from moiety.core.axes import Part
from moiety.core.memory import check_memory
from moiety.core.streams import stream
from moiety.methods.task import Task
from moiety.models.components import LABELS, MIX, Components, components
from moiety.models.stacked import PREFIX
from moiety.solve.sgd import LocalSGD
from moiety.tasks.objectives import Losses

ALL_MODELS = Part(names=(PREFIX + "*",))
"""The models, without the weights by which they are mixed."""

MODELS_AND_LABELS = Part(names=(PREFIX + "*", LABELS))
"""The models, and how often each has each class."""


def draw_components(task: Task, name: str, count: int, *, labels: int = 0) -> Components:
    """Draw so many models of a task's shape.

    Args:
        task: what is to be learnt.
        name: of the method.
        count: of models.
        labels: classes, where models are told how often they have each.

    Raises:
        ValueError: for a number that is none, or too many for the memory, and for a clip of
            gradients, whose norm would couple models that learn apart.
    """
    if count < 1:
        raise ValueError(f"{name}.models={count}; choose at least 1")
    if task.local.clip:
        raise ValueError(
            f"local.clip={task.local.clip} bounds the gradient of all models of {name} together; "
            "leave it out"
        )
    size = sum(t.numel() * t.element_size() for t in task.model.params.values())
    check_memory(count * size, f"{count} models of {size} bytes each", "choose fewer or smaller")
    starts = [task.model.redraw(stream(task.seed, name, place)) for place in range(count)]
    return components(task.model, starts, labels)


def make_component_solver(task: Task, model: Components, losses: Losses) -> LocalSGD:
    """Make the descent of workers that hold models; the weights of a mixture are not descended."""
    frozen = (*model.buffers, MIX)
    return task.local.make_solver({"": losses}, task.rounds, model=task.model, frozen=frozen)
