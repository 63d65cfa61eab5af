"""The benchmark's own arithmetic."""

import pytest

from benchmarks.mixtures_parts.consistency import slopes
from benchmarks.mixtures_parts.gate import Gate, not_run


def test_slopes_of_exact_laws():
    by_rows = {
        str(rows): {"fit": {"gate": 5 / rows, "experts": 1 / rows**2, "variances": 3.0}}
        for rows in (100, 200, 400)
    }
    found = slopes(by_rows)["fit"]
    assert found["gate"] == pytest.approx(-1)
    assert found["experts"] == pytest.approx(-2)
    assert found["variances"] == pytest.approx(0, abs=1e-12)


def test_a_gate_says_how_it_went():
    assert "FALLS SHORT" in Gate("g", ">= 2", "1", passed=False).line()
    assert "not run (quick)" in not_run("g", ">= 2", "quick").line()
