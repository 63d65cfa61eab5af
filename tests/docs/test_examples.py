"""Every example runs as it stands, and so does all that it asserts."""

import re
import runpy
from pathlib import Path

import pytest
import torch

MOST_LINES = {"fedavg.py": 60, "lora.py": 60}
"""Of those that say the same twice, or bring a layer of their own."""

EXAMPLES = sorted((Path(__file__).parents[2] / "examples").glob("*.py"))


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_an_example_runs(path, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with torch.random.fork_rng():
        runpy.run_path(str(path), run_name="__main__")
    assert re.search(r"\d", capsys.readouterr().out.splitlines()[-1])  # what came out, as a figure


def test_there_are_examples():
    assert {path.name for path in EXAMPLES} >= {"export.py", "fedavg.py", "module.py"}


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_an_example_is_short(path):
    lines = path.read_text(encoding="utf8").partition('"""\n')[2].splitlines()
    code = [line for line in lines if line.strip() and not line.strip().startswith(("#", '"""'))]
    assert len(code) <= MOST_LINES.get(path.name, 40)


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_an_example_is_a_tutorial(path):
    page = (path.parents[1] / "docs" / "tutorials.md").read_text(encoding="utf8")
    assert f'--8<-- "examples/{path.name}"' in page
