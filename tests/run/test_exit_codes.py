"""A name that does not exist ends with exit code 2, wherever it stands."""

import pytest

WORDS = (
    ("fedavg", "--methods", "fedavgg"), ("fedavg", "--engine", "poool"),
    ("fedavg", "--net", "mlpp"),
    ("fedavg", "--device", "gpu"), ("fedavg", "--local.optimizer", "adamm"),
    ("fedavg", "--local.lr-schedule", "cosin"), ("fedavg", "--local.optimizer-state", "kept"),
    ("fedavg", "--schedule.kind", "bufferd"), ("fedavg", "--population.scheme", "lables"),
    ("fedavg", "--data", "digitss"), ("fedopt", "--fedopt.server", "adamm"),
    ("ist", "--ist.assignment", "round"),
)  # fmt: skip


@pytest.mark.parametrize("command", ["run", "plan"])
@pytest.mark.parametrize("words", WORDS, ids=lambda words: words[1])
def test_a_value_that_names_nothing(moiety, small, tmp_path, words, command):
    before = sorted(tmp_path.iterdir())
    said = moiety(command, "yours", *small, "--methods", *words)
    assert said.code == 2, said.err
    assert words[-1] in said.err
    assert sorted(tmp_path.iterdir()) == before
