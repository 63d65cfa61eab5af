"""What methods declare that they cannot keep."""

import ast
from pathlib import Path

import pytest

from moiety.methods import METHODS

LAWS = Path(__file__).parents[1] / "laws"
DECLARED = [(name, law) for name, entry in METHODS.items() for law in entry.cannot]


@pytest.mark.parametrize(("name", "law"), DECLARED)
def test_a_declared_failure_names_a_law_and_a_reason(name, law):
    """A law of another name would never be looked for."""
    trees = [ast.parse(path.read_text(encoding="utf8")) for path in LAWS.glob("test_*.py")]
    laws = {node.name for tree in trees for node in tree.body if isinstance(node, ast.FunctionDef)}
    assert f"test_{law}" in laws
    assert len(METHODS[name].cannot[law].split()) > 5
