"""Where the seconds of a round go, worked out on paper."""

import math

import pytest

from moiety import report
from moiety.report.matrices import tabulate_seconds
from moiety.report.seconds import make_seconds_figures
from moiety.report.series import group_series

NAMES = ("split_s", "send_s", "work_s", "merge_s", "wait_s", "evaluate_s")


@pytest.fixture
def timed(make):
    """Two seeds: rounds of 1 and 2 seconds, and one of 2.5 seconds."""

    def entry(number, seconds, *phases):
        plain = make.round(number, [make.work(0)], seconds=seconds)
        return make.replace(plain, **dict(zip(NAMES, phases, strict=True)))

    rounds = [
        [entry(1, 1.0, 0.1, 0.1, 0.5, 0.1, 0.1, 0.0), entry(2, 2.0, 0.1, 0.3, 1.0, 0.3, 0.1, 0.4)],
        [entry(1, 2.5, 0.0, 0.0, 1.25, 0.0, 0.5, 0.2)],
    ]
    last = make.evaluation(2, [0.5, 0.7], [0.4])
    return [[make.start("ist", seed), *found, last] for seed, found in enumerate(rounds)]


def test_seconds_are_averaged_over_rounds_then_over_seeds(make, timed):
    (row,) = tabulate_seconds(group_series([make.ledger(one) for one in timed]))
    found = {name: value.mean for name, value in row.phases.items()}
    # the first seed: split 0.1, send 0.2, work 0.75, merge 0.2, wait 0.1, other 0.15, all 1.5
    assert found == pytest.approx(
        {"split": 0.05, "send": 0.1, "work": 1.0, "merge": 0.1, "wait": 0.3, "other": 0.45}
    )
    assert sum(found.values()) == pytest.approx(row.whole.mean) == 2.0
    assert (row.whole.std, row.whole.n) == (pytest.approx(1 / math.sqrt(2)), 2)
    assert (row.phases["work"].low, row.phases["work"].high) == (0.75, 1.25)
    assert row.evaluate.mean == pytest.approx(0.2)


def test_the_figure_tells_the_same_in_words_and_numbers(make, timed):
    (figure,) = make_seconds_figures(group_series([make.ledger(one) for one in timed]))
    assert figure.finding == "A round takes on average: ist 2.00 s, most of it for work (50.0 %)."
    (grid,) = figure.grids
    lines = {line[1]: line[2:] for line in grid.rows}
    assert lines["work"] == ["1000.00", "353.55", "750.00", "1250.00", "2", "50.0"]
    assert lines["whole round"] == ["2000.00", "707.11", "1500.00", "2500.00", "2", "100.0"]
    assert lines["evaluate"] == ["200.00", "0.00", "200.00", "200.00", "2", "none"]
    for name in (*lines.keys() - {"whole round"}, "2.00 s"):
        assert f">{name}<" in figure.svg


def test_the_page_has_the_figure_where_seconds_are_known(make, timed, small, tmp_path):
    def page(folder):
        return report.write_report([folder], tmp_path / "page.html").read_text(encoding="utf8")

    assert "Where the seconds of a round go" not in page(small)
    for at, entries in enumerate(timed):
        make.run(small / f"timed-{at}", entries)
    text = page(small)
    assert text.count('<svg role="img" aria-labelledby="seconds-title"') == 1


@pytest.mark.parametrize("fields", [
    {}, {"work_s": math.nan}, {"work_s": 0.1, "evaluate_s": math.nan},
    {"work_s": 0.1, "seconds": math.nan}, {"evaluate_s": 1.0},
])  # fmt: skip
def test_seconds_that_nobody_measured_are_left_out(make, fields, timed):
    entries = make.small("ddome", 0, 0.0)
    entries[2:4] = [make.replace(entry, **fields) for entry in entries[2:4]]
    alone = group_series([make.ledger(entries)])
    assert tabulate_seconds(alone) == []
    assert make_seconds_figures(alone) == []
    both = group_series([make.ledger(entries), *map(make.ledger, timed)])
    assert [row.label for row in tabulate_seconds(both)] == ["ist"]
    mixed = [timed[0][0], make.replace(entries[2], round=1), *timed[0][2:]]
    (row,) = tabulate_seconds(group_series([make.ledger(mixed)]))
    assert row.whole.mean == 2.0  # of the second round alone


def test_a_phase_longer_than_its_round_leaves_nothing_over(make, timed):
    first, entry, *_ = timed[0]
    ledger = make.ledger([first, make.replace(entry, seconds=0.5), timed[0][-1]])
    (row,) = tabulate_seconds(group_series([ledger]))
    assert row.phases["other"].mean == 0.0
