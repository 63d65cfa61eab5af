"""Rows without a target: training leaves them out and says so; use answers them all the same."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from moiety.data.files import read_file
from moiety.data.roles import Columns
from moiety.data.tables import read_encoded

TARGETS = {"classes": ("k",), "numbers": ("u",), "labels": ("p", "q")}
GAP = {"k": 1, "u": 3, "p": 0, "q": 2}
"""Column -> the row that lacks it."""

WORDS = {"k": "xyxyx", "u": [0.5, 1.5, 2.5, 3.5, 4.5], "p": [0, 1, 0, 1, 1], "q": [1, 1, 0, 0, 1]}


def write(folder, kind, gap):
    columns = {"a": list(range(5))} | {
        name: [None if row == GAP[name] else one for row, one in enumerate(values)]
        for name, values in WORDS.items()
    }
    path = folder / f"table.{kind}"
    if kind == "parquet":
        pq.write_table(pa.table(columns), path)
    else:
        lines = (
            ",".join(gap if one is None else str(one) for one in row)
            for row in zip(*columns.values(), strict=True)
        )
        path.write_text("\n".join([",".join(columns), *lines]) + "\n")
    return path


@pytest.mark.parametrize("task", TARGETS)
@pytest.mark.parametrize(("kind", "gap"), [("csv", ""), ("csv", " NA "), ("parquet", "")])
def test_rows_without_a_target_are_left_out_and_counted(tmp_path, task, kind, gap):
    path, names = write(tmp_path, kind, gap), TARGETS[task]
    drop = tuple(name for name in WORDS if name not in names)
    said = Columns(",".join(names), drop=drop, task=task)
    data = read_file(path, said)
    lost = sorted(GAP[name] for name in names)
    kept = [row for row in range(5) if row not in lost]
    assert data.x[:, 0].tolist() == kept
    assert data.find_objective().name == task
    assert data.y is not None
    first = np.array(WORDS[names[0]] if task != "classes" else [*WORDS["k"]])[kept]
    told = data.y[:, 0].tolist() if data.y.ndim > 1 else [data.classes[one] for one in data.y]
    assert told == first.tolist()
    words = f"{len(lost)} of 5 rows have no value of {', '.join(names)} (the first is row "
    assert f"{words}{lost[0] + 1}): they are left out" in data.notes
    assert data.encoding is not None
    used = read_encoded(path, said, data.encoding)
    assert used.x[:, 0].tolist() == [0, 1, 2, 3, 4]
    assert used.y is None
    assert f"{words}{lost[0] + 1}): answers are not scored" in used.notes


def test_a_target_without_any_value_is_refused(tmp_path):
    path = tmp_path / "empty.csv"
    path.write_text("a,y\n1,\n2,NA\n")
    with pytest.raises(ValueError, match=r"no row has a value of \['y'\]; name another --target"):
        read_file(path)


def test_a_file_of_use_may_lack_some_targets(tmp_path):
    path = tmp_path / "table.csv"
    path.write_text("a,u,v\n1,2,3\n2,3,5\n")
    encoding = read_file(path, Columns("u,v")).encoding
    assert encoding is not None
    path.write_text("a,u\n1,2\n2,3\n")
    used = read_encoded(path, Columns(usual_target="u,v", task="numbers"), encoding)
    assert used.y is None
    assert any("has some targets but not ['v']: none is read" in note for note in used.notes)
    with pytest.raises(ValueError, match=r"no column target='v'; it has \['a', 'u'\]"):
        read_encoded(path, Columns("u,v", task="numbers"), encoding)
    with pytest.raises(ValueError, match="target 'a' is a feature of the model"):
        read_encoded(path, Columns("a", task="numbers"), encoding)
