"""What a run begins with: what a user should look at is said, and nothing else."""

from dataclasses import replace

import pytest
import torch

from moiety.data.dataset import Dataset
from moiety.data.roles import Roles
from moiety.recipes.describe import question_target, question_workers
from moiety.recipes.population import Partition
from moiety.recipes.record import Population


def classes(names, size):
    y = torch.arange(size) % len(names)
    return Dataset("t", torch.zeros(size, 1), y, tuple(names), roles=Roles(label="y"))


@pytest.mark.parametrize(
    ("count", "rows", "numeric", "asked"),
    [(100, 450, True, True), (100, 1000, True, False), (10, 20, True, False),
     (100, 450, False, False), (100, 150, False, True)],
)  # fmt: skip
def test_many_classes_are_asked_for_the_more_if_they_are_numbers(count, rows, numeric, asked):
    names = [str(n) if numeric else f"k{n}" for n in range(count)]
    said = question_target(classes(names, rows))
    assert bool(said) == asked
    assert all("--task numbers" in line for line in said)


def test_few_held_out_and_owners_of_one_row_are_said():
    data = replace(classes("ab", 6), roles=Roles(label="y", group="who"))
    population = Population("natural", workers=4, unseen=2)
    none = torch.zeros(0, dtype=torch.int64)
    alone = Partition(none, none, {w: torch.tensor([w]) for w in range(4)}, {}, {})
    assert question_workers(data, alone, population, 2) == [
        "group 'who' has one row for each of 4 workers: does it name rows rather than who holds "
        "them?"
    ]
    two = replace(alone, train={**alone.train, 0: torch.tensor([0, 5])})
    assert question_workers(data, two, population, 2) == []
    (said,) = question_workers(data, two, population, 5)
    assert said.startswith("population.unseen is 5, but of 6 workers 2 are held out")
