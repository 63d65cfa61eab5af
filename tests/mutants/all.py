"""All planted bugs, by list."""

from tests.mutants.found import FOUND
from tests.mutants.fresh import FRESH
from tests.mutants.guards import GUARDS

LISTS = {"found": FOUND, "fresh": FRESH, "guards": GUARDS}
