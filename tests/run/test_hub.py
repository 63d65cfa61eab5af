"""``--data hf:NAME``: a data set of Hugging Face trained on from the command line."""

import pytest

from moiety.core.ledger import read_ledger
from moiety.run.loop import LEDGER
from tests.hub import make

hub = pytest.importorskip("datasets", reason="the extra 'hf' is not installed")


def test_a_saved_data_set_is_trained_on(moiety, tmp_path):
    hub.DatasetDict({"train": make(120), "test": make(20)}).save_to_disk(tmp_path / "saved")
    said = moiety("run", "yours", "--data", "hf:saved", "--features", "text", "--net", "bag",
                  "--methods", "fedavg", "--rounds", "20", "--local.lr", "1",
                  "--population.scheme", "iid", "--population.shared-test",
                  "--out", "own")  # fmt: skip
    assert said.code == 0, said.err
    assert "features text" in said.err
    ledger = read_ledger(tmp_path / "own" / LEDGER)
    assert list(ledger.start.classes) == ["bad", "good"]
    test = ledger.evaluations[-1].groups["test"]
    assert (test.rows, test.metrics["accuracy"]) == ([20], [pytest.approx(1.0)])
