"""Nodes of a simulation are numbers, which the plan names."""

import pytest

from moiety.federation.simulated import is_simulated, read_simulated
from moiety.run.cli import main


def test_a_number_is_a_name_of_the_plan(tmp_path):
    app = tmp_path / "app"
    assert main(["flower", "new", str(app), "--workers", "a", "b", "--recipe", "dmoe-breast"]) == 0
    said = {"plan": str(app / "plan.toml")}
    node = read_simulated({"partition-id": 1, "num-partitions": 2}, said)
    assert (node.name, node.data, node.folder.parent) == (
        "b",
        "breast-cancer",
        app / "run" / "nodes",
    )
    with pytest.raises(ValueError, match="node 3 of a simulation, but the plan has 2"):
        read_simulated({"partition-id": 2}, said)
    plan = (app / "plan.toml").read_text()
    (app / "plan.toml").write_text(plan.replace('rows = "shared"', 'rows = "own"'))
    with pytest.raises(ValueError, match="no rows of their own"):
        read_simulated({"partition-id": 0}, said)


def test_a_node_with_a_name_is_no_simulation():
    """A server could else name the plan that a node reads."""
    assert not is_simulated({"partition-id": 0, "name": "north", "data": "digits"})
    assert is_simulated({"partition-id": 0})
