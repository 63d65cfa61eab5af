"""Planted bugs are as true as the code they are planted in."""

import pytest

from tests.mutants.all import LISTS
from tests.mutants.record import ROOT

ALL = [mutant for some in LISTS.values() for mutant in some]


@pytest.mark.parametrize("mutant", ALL, ids=lambda mutant: f"{mutant.file}: {mutant.bug}")
def test_a_planted_bug_can_be_planted(mutant):
    """Its old text stands once in its file, the new one is another, and its tests are there."""
    assert not mutant.stale()
    assert mutant.old != mutant.new
    assert mutant.tests
    for test in mutant.tests:
        file, _, name = test.partition("::")
        assert f"def {name}" in (ROOT / file).read_text(encoding="utf8")


def test_no_bug_is_listed_twice():
    assert len({(mutant.file, mutant.old, mutant.new) for mutant in ALL}) == len(ALL)
