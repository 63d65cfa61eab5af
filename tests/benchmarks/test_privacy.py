"""What a table of private runs must not show, on rows made by hand; nothing is played."""

import pytest

from benchmarks.privacy import SETTINGS, Row, judge


@pytest.mark.parametrize(
    ("spent", "scores", "right"),
    [
        ((9.0, 4.0), (80.0, 70.0), [True, True]),
        ((9.0, 9.0), (80.0, 70.0), [False, True]),
        ((9.0, 4.0), (80.0, 82.5), [True, False]),
    ],
)
def test_noise_buys_epsilon_and_is_paid_for(spent, scores, right):
    rows = []
    for setting in SETTINGS:
        rows.append(Row(setting, 0, 0.2, float("inf"), (81.0,)))
        told = zip((1, 2), spent, scores, strict=True)
        rows += [Row(setting, noise, 0.5, cost, (score,)) for noise, cost, score in told]
    gates = judge(rows, quick=False)
    assert [gate.ok for gate in gates[:2]] == right
    least = [gate.measured for gate in gates if "least epsilon" in gate.name]
    assert least[0] == ("epsilon 9.0, 80.0 %" if scores[1] < 76 else f"epsilon 4.0, {scores[1]} %")
