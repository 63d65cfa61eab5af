"""Nodes of Flower's simulation, which are numbers in one process: their names are the plan's."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from moiety.federation.node import NodeConfig

NUMBER = "partition-id"
"""What a simulation calls the number of a node."""


def is_simulated(config: Mapping[str, Any]) -> bool:
    """Say whether a node is one of a simulation: it has a number, and was given no name."""
    return NUMBER in config and "name" not in config


def read_simulated(config: Mapping[str, Any], run_config: Mapping[str, Any]) -> NodeConfig:
    """Make a node of a number, by the plan of the run, which lies on the same machine.

    Raises:
        ValueError: for more nodes than workers, and for nodes that must have files of their own.
    """
    from moiety.recipes import RECIPES  # slow, and for a simulation alone
    from moiety.recipes.fields import override_fields

    plan = tomllib.loads(Path(str(run_config["plan"])).read_text(encoding="utf8"))
    if plan.get("rows") == "own":
        raise ValueError("nodes of a simulation have no rows of their own; start SuperNodes")
    number, workers = int(config[NUMBER]), plan["workers"]
    if number >= len(workers):
        raise ValueError(f"node {number + 1} of a simulation, but the plan has {len(workers)}")
    record = override_fields(RECIPES[plan["recipe"]].record, plan.get("fields", {}))
    folder = Path(plan["folder"]) / "nodes" / workers[number]
    return NodeConfig(workers[number], record.data, folder, test=record.test)
