"""All planted bugs, by list."""

from tests.mutants.found import FOUND
from tests.mutants.fresh import FRESH

LISTS = {"found": FOUND, "fresh": FRESH}
