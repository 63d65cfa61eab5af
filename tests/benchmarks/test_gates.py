"""The gate machinery on gates made by hand; no timings."""

import json

import pytest

from benchmarks.gates import (
    Book,
    at_least,
    at_most,
    machine,
    not_run,
    options,
    report,
    shown,
    spread,
    table,
)


def told(*arguments):
    return options("a benchmark", list(arguments))


def test_a_floor_and_a_ceiling_look_at_the_median():
    assert at_least("speed", 2.0, [1.0, 2.0, 9.0]).ok
    assert not at_least("speed", 2.1, [1.0, 2.0, 9.0]).ok
    assert at_most("memory", 2.0, [1.0, 2.0, 9.0]).ok
    assert not at_most("memory", 1.9, [1.0, 2.0, 9.0]).ok


def test_a_figure_shows_its_range():
    assert spread([3.0, 1.0, 2.0], "x") == "2.00x (1.00 to 3.00)"


def test_the_table_says_what_was_reached():
    gates = [
        at_least("fast", 1.0, [2.0]),
        at_least("slow", 1.0, [0.5]),
        shown("seen", [1.0], " s"),
        not_run("peer", "at least 10x", "not installed"),
    ]
    assert table(gates).splitlines() == [
        "| gate | asked | measured | reached |",
        "| --- | --- | --- | --- |",
        "| fast | at least 1x | 2.00x (2.00 to 2.00) | yes |",
        "| slow | at least 1x | 0.50x (0.50 to 0.50) | **no** |",
        "| seen | - | 1.00 s (1.00 to 1.00) |  |",
        "| peer | at least 10x | not run: not installed |  |",
    ]


@pytest.mark.parametrize(
    ("arguments", "values", "code"),
    [
        ([], [0.5], 0),
        (["--check"], [0.5], 1),
        (["--check"], [2.0], 0),
        (["--check", "--quick"], [0.5], 1),
    ],
)
def test_check_fails_where_a_gate_falls_short(arguments, values, code, capsys):
    gates = [at_least("speed", 1.0, values), shown("seen", [9.0]), not_run("peer", "1x", "unset")]
    assert report(gates, Book(), told(*arguments), {"cores": "2"}) == code
    assert "cores 2" in capsys.readouterr().out


def test_a_book_skips_what_it_holds_and_survives_a_stop(tmp_path):
    path = tmp_path / "figures.json"
    calls = []

    def take():
        calls.append(1)
        return {"seconds": [1.0]}

    def stop():
        raise KeyboardInterrupt

    book = Book.open(path)
    book.measure("one", take)
    with pytest.raises(KeyboardInterrupt):
        book.measure("two", stop)
    again = Book.open(path)
    assert again.measure("one", take) == {"seconds": [1.0]}
    assert len(calls) == 1
    assert "two" not in again.figures


def test_a_report_is_kept_with_its_gates_and_machine(tmp_path, capsys):
    path = tmp_path / "figures.json"
    book = Book.open(path)
    report([at_least("speed", 1.0, [2.0])], book, told(), machine())
    capsys.readouterr()
    kept = json.loads(path.read_text())
    assert set(kept["machine"]) == {"date", "cores", "cpu", "system", "python", "torch"}
    assert kept["gates"][0]["ok"] is True


def test_without_a_file_nothing_is_kept(tmp_path):
    Book().write([])
    assert not list(tmp_path.iterdir())


def test_a_figure_keeps_the_day_it_was_measured(tmp_path, monkeypatch, capsys):
    path = tmp_path / "kept.json"
    for day in ("2026-01-01", "2026-01-03"):
        now = {**machine(), "date": day}
        monkeypatch.setattr("benchmarks.gates.machine", lambda now=now: now)
        book = Book.open(path)
        book.measure("old", lambda: 1)
        book.measure(f"new on {day}", lambda: 2)
        report([], book, told(), now)
    kept = json.loads(path.read_text())
    assert kept["days"]["old"] == "2026-01-01"
    assert kept["machine"]["date"] == "2026-01-01 to 2026-01-03"
    assert "date 2026-01-01 to 2026-01-03" in capsys.readouterr().out
