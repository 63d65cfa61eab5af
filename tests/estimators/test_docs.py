"""The page on mixtures runs as it stands."""

import re
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[2] / "docs" / "methods" / "mixtures.md"


def read_examples():
    return re.findall(r"^```python\n(.*?)^```", PAGE.read_text(encoding="utf8"), re.M | re.S)


def test_the_example_runs(capsys):
    code, _ = read_examples()
    names: dict = {}
    exec(code, names)
    assert names["chosen"].n_experts == 2
    truth = names["model"].log_likelihood(names["x"], names["y"])
    reduced, better = (
        names[name].log_likelihood(names["x"], names["y"]) for name in ("reduced", "better")
    )
    assert truth - reduced < 10
    assert truth - better < truth - reduced
    assert "std. error" in capsys.readouterr().out


def test_the_formula_runs(capsys):
    pytest.importorskip("formulaic")
    names: dict = {}
    exec(read_examples()[1], names)
    gate = names["model"].model_.gate_coef_[0]
    assert (gate[:-1] == 0).all()  # of x and the spline of z
    assert gate[-1] != 0
    assert "s(z)[4]" in capsys.readouterr().out
