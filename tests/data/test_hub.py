"""Data sets of Hugging Face, saved to disk: nothing is loaded from a network."""

import pytest

from moiety.data.hub import read_hub, read_hub_records
from moiety.data.records import RecordColumns
from moiety.data.roles import Columns
from tests.hub import make

hub = pytest.importorskip("datasets", reason="the extra 'hf' is not installed")


def test_labels_keep_their_names_and_the_test_split_is_the_test_part(tmp_path):
    hub.DatasetDict({"train": make(40), "test": make(12)}).save_to_disk(tmp_path / "saved")
    data = read_hub(str(tmp_path / "saved"), Columns(features=("text",)))
    assert data.classes == ("bad", "good")
    assert data.y is not None
    assert data.test is not None
    assert data.y.tolist() == [place % 2 for place in (*range(40), *range(12))]
    assert int(data.test.sum()) == 12
    assert data.encoding is not None
    assert data.encoding.vocabulary == 8  # nothing, unknown, it, was, bad, good, in, town
    plain = read_hub(str(tmp_path / "saved"), Columns())
    assert plain.columns == ("size",)
    assert "column 'text' holds texts, and is left out" in plain.notes[0]


def test_what_is_not_there_is_said(tmp_path):
    make(4).filter(lambda row: row["size"] > 9).save_to_disk(tmp_path / "none")
    with pytest.raises(ValueError, match="no rows"):
        read_hub(str(tmp_path / "none"), Columns())
    hub.DatasetDict({"dev": make(4)}).save_to_disk(tmp_path / "dev")
    with pytest.raises(ValueError, match=r"has splits \['dev'\], but no 'train'"):
        read_hub(str(tmp_path / "dev"), Columns())
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="cannot be loaded"):
        read_hub(str(tmp_path / "empty"), Columns())


def test_instruction_records_keep_the_names_of_their_skills(tmp_path):
    """Splits beside that of training are named; a record without an answer is told."""
    made = make(4).rename_columns({"text": "instruction", "size": "answer", "label": "skill"})
    hub.DatasetDict({"train": made, "held": made}).save_to_disk(tmp_path / "saved")
    records, others = read_hub_records(str(tmp_path / "saved"), RecordColumns())
    assert records.requests[1] == "it was good in town 1"
    assert records.answers == ["0.0", "1.0", "2.0", "3.0"]
    assert records.skills == ["bad", "good", "bad", "good"]
    assert others == ["held"]
    lacking = made.map(lambda row: {"answer": None if row["answer"] == 2 else row["answer"]})
    lacking.save_to_disk(tmp_path / "lacking")
    with pytest.raises(ValueError, match="record 3 has no 'answer'"):
        read_hub_records(str(tmp_path / "lacking"), RecordColumns())
