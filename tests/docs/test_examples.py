"""Every example runs as it stands, and so does all that it asserts."""

import runpy
from pathlib import Path

import pytest
import torch

EXAMPLES = sorted((Path(__file__).parents[2] / "examples").glob("*.py"))


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_an_example_runs(path, capsys):
    with torch.random.fork_rng():
        runpy.run_path(str(path), run_name="__main__")
    assert "accuracy" in capsys.readouterr().out


def test_there_are_examples():
    assert {path.name for path in EXAMPLES} >= {"fedavg.py", "module.py"}
