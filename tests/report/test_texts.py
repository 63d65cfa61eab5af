"""Of texts the loss is told; of rows it is not."""

from dataclasses import replace

from moiety.core.ledger import End, Evaluation, Group, Ledger, Start
from moiety.report.findings import describe_others
from moiety.report.frames import summarize_series
from moiety.report.series import group_series
from moiety.report.text import format_table


def ledger(seed: int, loss: float, *, texts: bool) -> Ledger:
    start = Start(
        recipe="r", method="ist", seed=seed, engine="serial", device="cpu", rounds=1, command="",
        time="", config={}, environment={}, classes=["a", "b"], num_seen=1, num_unseen=0, seen=[],
        unseen=[], num_parameters=1, constant_bytes=0, texts=texts,
    )  # fmt: skip
    groups = {"test": Group([-1], [0.5], [10], [loss]), "validation": Group([-1], [0.5], [10], [9])}
    return Ledger(start, [], [Evaluation(1, 0.0, groups)], End(1, 0.0, "finished"))


def test_the_loss_of_texts_has_a_column():
    told = [ledger(0, 2.0, texts=True), ledger(1, 2.5, texts=True)]
    (row,) = summarize_series(group_series(told))
    assert row.losses["test"].mean == 2.25
    lines = format_table(told).splitlines()
    assert "loss of test rows" in lines[0]
    assert "validation" not in lines[0]
    assert "2.250 ± 0.354" in lines[1]
    assert any("nats a token" in line for line in lines)


def test_the_loss_of_rows_has_none():
    told = [ledger(0, 2.0, texts=False)]
    assert summarize_series(group_series(told))[0].losses == {}
    assert "loss" not in format_table(told)


def test_texts_are_ranked_by_their_loss():
    """Where accuracies say otherwise, too: the table names the loss as what counts."""

    def of(method: str, loss: float, accuracy: float) -> Ledger:
        told = ledger(0, loss, texts=True)
        groups = {"test": Group([-1], [accuracy], [10], [loss])}
        start, found = replace(told.start, method=method), [Evaluation(1, 0.0, groups)]
        return Ledger(start, [], found, End(1, 0.0, "finished"))

    told = [of("first", 2.0, 0.4), of("second", 2.5, 0.6), of("third", 2.6, 0.5)]
    found = format_table(told)
    assert "first leads on the test workers with 2.000 nats (1 seed), 0.500 nats below second" in (
        found.replace("\n", " ")
    )
    rows = summarize_series(group_series(told))
    assert describe_others(rows)[0].startswith("third is 0.600 nats behind first")


def test_a_tie_is_no_lead():
    told = [replace_method(ledger(0, 2.0, texts=True), name) for name in ("a", "b")]
    assert "a and b tie on the test workers with 2.000 nats (1 seed)." in format_table(told)


def replace_method(told: Ledger, name: str) -> Ledger:
    return replace(told, start=replace(told.start, method=name))
