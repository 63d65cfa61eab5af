"""What is foreseen of a gate's routing, counted out over all workers that there may be."""

from dataclasses import replace
from itertools import combinations
from statistics import fmean

import pytest

from moiety.core.streams import stream
from moiety.methods.ddome import ddome
from moiety.methods.demo import make_two_class_workers
from moiety.methods.fedavg import fedavg
from moiety.plan.routing import count_touched_blocks, foresee_routing
from moiety.recipes.record import Federation, Population


@pytest.mark.parametrize(("classes", "held", "blocks"), [(10, 4, 5), (7, 2, 3), (6, 6, 4)])
def test_touched_blocks_are_those_of_all_sets_of_classes(classes, held, blocks):
    sizes = [classes // blocks + (place < classes % blocks) for place in range(blocks)]
    owner = [block for block, size in enumerate(sizes) for _ in range(size)]
    each = [len({owner[c] for c in mine}) for mine in combinations(range(classes), held)]
    assert count_touched_blocks(classes, held, blocks) == pytest.approx(fmean(each))


def test_only_runs_whose_workers_hold_too_few_experts_are_named():
    task, _ = make_two_class_workers(stream(0, "demo"))
    method = ddome(task, experts=5, k=2)
    wide = Federation(population=Population("labels", classes=4, anchors=5))
    assert "has rows of 3.3 of the 5 anchors' blocks and holds 2" in foresee_routing(
        wide, method, 10
    )
    narrow = replace(wide, population=replace(wide.population, classes=2))
    blind = replace(wide, population=replace(wide.population, anchors=0))
    other = replace(wide, population=replace(wide.population, scheme="dirichlet"))
    assert [foresee_routing(one, method, 10) for one in (narrow, blind, other)] == [""] * 3
    assert foresee_routing(wide, ddome(task, experts=5, k=4), 10) == ""
    assert foresee_routing(wide, fedavg(task), 10) == ""
