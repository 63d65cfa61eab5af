"""Of texts the loss is told; of rows it is not."""

from moiety.core.ledger import End, Evaluation, Group, Ledger, Start
from moiety.report.frames import summaries
from moiety.report.series import series
from moiety.report.text import table


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
    (row,) = summaries(series(told))
    assert row.losses["test"].mean == 2.25
    lines = table(told).splitlines()
    assert "loss of test rows" in lines[0]
    assert "validation" not in lines[0]
    assert "2.250 ± 0.354" in lines[1]
    assert any("nats a token" in line for line in lines)


def test_the_loss_of_rows_has_none():
    told = [ledger(0, 2.0, texts=False)]
    assert summaries(series(told))[0].losses == {}
    assert "loss" not in table(told)
