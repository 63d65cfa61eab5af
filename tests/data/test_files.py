import re
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from moiety.core import extras
from moiety.data.files import read_file
from moiety.data.roles import Columns


def write(path, text):
    path.write_text(text, encoding="utf8")
    return path


def read(path, **options):
    return read_file(path, Columns(**options))


def refuses(path, *words, **options):
    with pytest.raises(ValueError, match=".*".join(re.escape(word) for word in words)):
        read(path, **options)


GOOD = "a,b,label,worker\n1,2.5,cat,u\n3,4,ant,v\n5,6,cat,u\n"


def test_csv_and_parquet_read_alike(tmp_path):
    csv = write(tmp_path / "t.csv", GOOD)
    table = pa.table(
        {
            "a": [1, 3, 5],
            "b": [2.5, 4, 6],
            "label": ["cat", "ant", "cat"],
            "worker": ["u", "v", "u"],
        }
    )
    pq.write_table(table, tmp_path / "t.parquet")
    for path in (csv, tmp_path / "t.parquet"):
        data: Any = read_file(path)
        assert data.x.tolist() == [[1, 2.5], [3, 4], [5, 6]]
        assert data.classes == ("ant", "cat")
        assert data.y.tolist() == [1, 0, 1]
        assert data.groups.tolist() == [0, 1, 0]


@pytest.mark.parametrize("suffix", ["csv", "parquet", "npz"])
def test_unwanted_labels_are_never_read(tmp_path, suffix):
    path = tmp_path / f"t.{suffix}"
    if suffix == "csv":
        write(path, "a,label\n1,\n2,NaN\n")
    elif suffix == "parquet":
        pq.write_table(pa.table({"a": [1, 2], "label": [None, float("nan")]}), path)
    else:
        np.savez(path, x=np.array([[1.0], [2.0]]), y=np.array([None, {}], dtype=object))
    data: Any = read(path, labels=False)
    assert data.y is None
    assert data.classes == ()
    assert data.x.tolist() == [[1], [2]]
    with pytest.raises(ValueError, match=r"no row has a value|objects"):
        read_file(path)


def test_target_is_found_or_named(tmp_path):
    path = write(tmp_path / "t.csv", "a,kind\n1,7\n2,10\n3,7\n")
    data: Any = read(path, target="kind")
    assert data.classes == ("7", "10")
    assert data.y.tolist() == [0, 1, 0]
    assert read_file(path).y is None
    assert read(path, target="kind", labels=False).x.shape == (3, 1)
    held: Any = read(path, group="kind")
    assert held.groups.tolist() == [0, 1, 0]
    refuses(path, "no column target='species'", target="species")
    refuses(path, "no column group='user'", group="user")
    refuses(write(tmp_path / "two.csv", "a,y,class\n1,0,0\n"), "['y', 'class']", "target=")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", ["is empty"]),
        ("a,y\n", ["no rows"]),
        ("a,y\n1,0\n2,0\ninf,1\n", ["'a' is inf", "row 3"]),
        ("a,y\n1,0\n1e300,0\n", ["'a'", "row 2"]),
        ("y\n0\n", ["none of them features"]),
        ("a,a,y\n1,2,0\n", ["several columns named ['a']"]),
        ("a,,y\n0,1,0\n", ["not the first, has no name"]),
        ("150,4,u\n1,2,3,4,0\n5,6,7,8,1\n", ["names the columns"]),
        ("a,y\n1,0\n1,2,3\n", ["cannot be read as CSV"]),
    ],
)
def test_bad_csv_is_refused(tmp_path, text, words):
    refuses(write(tmp_path / "t.csv", text), *words)


def test_bad_files_are_refused(tmp_path):
    refuses(tmp_path / "none.csv", "does not exist")
    refuses(write(tmp_path / "t.xlsx", "x"), "'.xlsx'", ".csv, .csv.gz")
    refuses(write(tmp_path / "t.parquet", "no parquet"), "cannot be read as Parquet")
    refuses(write(tmp_path / "t.npz", "no npz"), "is no npz file")
    (tmp_path / "latin.csv").write_bytes("größe,y\n1,0\n".encode("latin1"))
    refuses(tmp_path / "latin.csv", "UTF-8")


def test_a_class_of_one_row_is_allowed(tmp_path):
    data: Any = read_file(write(tmp_path / "t.csv", "a,y\n1,0\n2,0\n3,1\n"))
    assert data.y.bincount().tolist() == [2, 1]


def test_npz(tmp_path):
    path = tmp_path / "t.npz"
    np.savez(path, x=np.full((2, 4, 4), 255, np.uint8), y=np.array(["b", "a"]))
    data: Any = read_file(path)
    assert data.x.shape == (2, 1, 4, 4)
    assert float(data.x.max()) == 1
    assert data.classes == ("a", "b")
    np.savez(path, x=np.zeros((2, 3)))
    assert read_file(path).y is None


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"z": np.zeros(3)}, ["no 'x'"]),
        ({"x": np.zeros(3)}, ["[3]", "[N, D]"]),
        ({"x": np.zeros((0, 3))}, ["[0, 3]"]),
        ({"x": np.array([[1.0, 2.0], [3.0, np.nan]])}, ["nan in row 2 at [1]"]),
        ({"x": np.array([[None]], dtype=object)}, ["'x'", "never unpickled"]),
        ({"x": np.array([["a"]])}, ["dtype"]),
        ({"x": np.zeros((2, 1)), "y": np.zeros(3)}, ["'y' has 3 rows, but 'x' has 2"]),
        ({"x": np.zeros((2, 1)), "y": np.array([0.0, np.nan])}, ["'y' is missing in row 2"]),
        ({"x": np.zeros((2, 1)), "y": np.zeros((2, 2, 2))}, ["[2, 2, 2]"]),
        ({"x": np.zeros((2, 8, 8, 3))}, ["transpose"]),
    ],
)
def test_bad_npz_is_refused(tmp_path, arrays, words):
    np.savez(tmp_path / "t.npz", **arrays)
    refuses(tmp_path / "t.npz", *words)


def picture(path, value: Any = 0, size=(4, 3), mode="L"):
    path.parent.mkdir(exist_ok=True, parents=True)
    Image.new(mode, size, value).save(path)


def test_image_folder(tmp_path):
    picture(tmp_path / "b" / "1.png", 255)
    picture(tmp_path / "a" / "2.png", 51)
    for left in (".DS_Store", "Thumbs.db", "a/desktop.ini"):
        write(tmp_path / left, "left by a desktop")
    data: Any = read_file(tmp_path)
    assert data.classes == ("a", "b")
    assert data.y.tolist() == [0, 1]
    assert data.x.shape == (2, 1, 3, 4)
    assert data.x[:, 0, 0, 0].tolist() == pytest.approx([0.2, 1.0])
    hidden: Any = read(tmp_path, labels=False)
    assert hidden.y is None
    assert hidden.classes == ()
    picture(tmp_path / "a" / "3.png", (255, 0, 0), mode="RGB")
    assert read_file(tmp_path).x.shape == (3, 3, 3, 4)
    assert read_file(tmp_path / "a").y is None


def test_bad_images_are_refused(tmp_path):
    refuses(tmp_path, "is empty")
    picture(tmp_path / "a" / "1.png")
    picture(tmp_path / "a" / "2.png", size=(5, 3))
    refuses(tmp_path, "2.png is 5x3, but 1.png is 4x3")
    whole = (tmp_path / "a" / "1.png").read_bytes()
    (tmp_path / "a" / "2.png").write_bytes(whole[:40])
    refuses(tmp_path, "2.png cannot be read as an image")
    write(tmp_path / "a" / "2.png", "no image")
    refuses(tmp_path, "2.png cannot be read as an image")
    picture(tmp_path / "a" / "2.png", (0, 0, 0, 0), mode="RGBA")
    refuses(tmp_path, "2.png has mode RGBA")
    (tmp_path / "a" / "2.png").unlink()
    write(tmp_path / "a" / "note.txt", "x")
    refuses(tmp_path, "note.txt is no PNG or JPEG")
    write(tmp_path / "loose.txt", "x")
    refuses(tmp_path, "folders and also loose.txt")


def test_a_missing_library_is_named(tmp_path, monkeypatch):
    def absent(name):
        raise ImportError(name)

    monkeypatch.setattr(extras.importlib, "import_module", absent)
    path = write(tmp_path / "t.csv", GOOD)
    with pytest.raises(ImportError, match=r'tables needs pyarrow; run: pip install "\.\[data\]"'):
        read_file(path)
