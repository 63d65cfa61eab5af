"""The benchmark's own arithmetic."""

import sys

import pytest

from benchmarks import mixtures
from benchmarks.mixtures_parts.consistency import slopes
from benchmarks.mixtures_parts.gate import Gate, not_run
from benchmarks.mixtures_parts.one import MAXIMUM, raced
from benchmarks.mixtures_parts.robust import moderate, worst_of
from tests.estimators.worlds import gaussian_mixture


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
    assert "reported" in Gate("g", "a table", "4 sets", passed=None).line()


def test_a_race_against_another_maximum_falls_short():
    us = {"log_likelihood": MAXIMUM, "cpu_s": 1.0, "steps": 14}
    there = {"log_likelihood": MAXIMUM - 0.01, "cpu_s": 30.0, "steps": 14, "experts": 4}
    assert raced(us, us, there).passed
    assert "-87994.4636 with 4 experts" in raced(us, us, there).measured
    assert raced(us, us, there | {"experts": 3}).passed is False
    assert raced(us, us, there | {"log_likelihood": MAXIMUM - 0.06}).passed is False
    assert raced(us, us, there | {"cpu_s": 14.0}).passed is False


def test_a_quick_run_does_not_write_over_results(tmp_path, monkeypatch, capsys):
    path = tmp_path / "full.json"
    path.write_text("{}")
    monkeypatch.setattr(sys, "argv", ["mixtures", "--quick", "--json", str(path)])
    with pytest.raises(SystemExit):
        mixtures.main()
    assert "overwrite" in capsys.readouterr().err
    assert path.read_text() == "{}"


def test_moderate_corruptions_change_what_they_name():
    good = gaussian_mixture(0)
    found = {f"{kind} {much}": bad for kind, much, bad in moderate(good, seed=1)}
    assert len(found) == 22
    assert (found["gate times 0"].gate == 0).all()
    doubled = found["variances times 2"].experts.variances
    assert doubled == pytest.approx(2 * good.experts.variances)
    noisy = found["gate with noise of sd 0.2"]
    assert (noisy.gate[:, -1] == 0).all()
    assert (noisy.gate[:, :-1] != good.gate[:, :-1]).all()
    assert (noisy.experts.coef == good.experts.coef).all()
    runs = [{"cost": 1.0, "dropped": True}, {"cost": 3.0, "dropped": False}]
    assert worst_of(runs) == {"cost": 3.0, "dropped": 1, "of": 2}
