"""All planted bugs, by list."""

from tests.mutants.found import FOUND

LISTS = {"found": FOUND}
