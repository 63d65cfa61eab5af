"""Tables as people bring them: how they are laid out, and how columns become numbers."""

import gzip
import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from moiety.data.columns import Column
from moiety.data.encoding import CategoryEncoding, ColumnsEncoding, DateEncoding, NumberEncoding
from moiety.data.files import read_file
from moiety.data.roles import Columns
from moiety.data.tables import read_encoded

arrow = pytest.importorskip("pyarrow", reason="the extra 'data' is not installed")
pq = pytest.importorskip("pyarrow.parquet", reason="the extra 'data' is not installed")

ROWS = [("1.5", "u", "red"), ("2", "v", "blue"), ("-3", "u", "red"), ("4", "v", "green")]


def write(path, text):
    if path.suffix == ".gz":
        path.write_bytes(gzip.compress(text.encode()))
    else:
        path.write_text(text, encoding="utf8")
    return path


def learn(path):
    """Read a table of training, and give its encoding."""
    found = read_file(path).encoding
    assert found is not None
    return found


def count(values):
    """List the numbers of rows that have some."""
    assert values is not None
    return values.tolist()


def column(values, name="a"):
    return Column(Path("t.csv"), name, arrow.chunked_array([values]))


@pytest.mark.parametrize("name", ["t.csv", "t.csv.gz", "t.tsv", "t.tsv.gz"])
@pytest.mark.parametrize("mark", [",", ";", "\t", "|", " "])
@pytest.mark.parametrize("quote", ["", '"', "'"])
def test_a_table_is_read_alike_however_it_is_laid_out(tmp_path, name, mark, quote):
    head = mark.join(f"{quote}{one}{quote}" for one in ("size", "label", "colour"))
    lines = [head, *(mark.join(row) for row in ROWS)]
    data = read_file(write(tmp_path / name, "\n".join(lines) + "\n"))
    assert data.columns == ("size", "colour: blue", "colour: green", "colour: red")
    assert data.x.tolist() == [[1.5, 0, 0, 1], [2, 1, 0, 0], [-3, 0, 0, 1], [4, 0, 1, 0]]
    assert data.classes == ("u", "v")
    assert count(data.y) == [0, 1, 0, 1]


@pytest.mark.parametrize("mark", [";", "\t", "|", " "])
def test_fractions_with_a_comma_are_those_with_a_point(tmp_path, mark):
    """Of features, targets, weights and values of a category, in training and in use."""
    head, rows = ["a", "code", "w", "y"], [[f"{n}.5", f"k{n % 2}", n, f"-{n}.25"] for n in range(6)]
    rows += [["7", "1.5", "1", "2"]] * 3  # a category with a value like a number
    text = "\n".join(mark.join(map(str, row)) for row in [head, *rows])
    said = Columns(target="y", weight="w", task="numbers")
    point, comma = (
        read_file(write(tmp_path / name, found + "\n"), said)
        for name, found in (("p.csv", text), ("c.csv", text.replace(".", ",")))
    )
    assert comma.columns == point.columns
    assert "code: 1.5" in comma.columns
    for field in ("x", "y", "weights"):
        assert torch.equal(getattr(comma, field), getattr(point, field))
    assert comma.notes[0] == "c.csv writes fractions with a comma ('0,5'), and is read so"
    assert point.encoding is not None
    used = [read_encoded(tmp_path / name, said, point.encoding).x for name in ("p.csv", "c.csv")]
    assert torch.equal(*used)


@pytest.mark.parametrize("cell", ["1,234", "12,345,678", "1,5"])
def test_a_comma_that_may_be_something_else_is_left(tmp_path, cell):
    """A thousand, and a comma in a file whose fractions have points, are words as they stand."""
    other = "0.5" if cell == "1,5" else "3"
    lines = [f"{other};{cell};{'uv'[n % 2]}" for n in range(4)]
    data = read_file(write(tmp_path / "t.csv", "\n".join(["a;b;y", *lines]) + "\n"))
    assert data.columns == ("a", f"b: {cell}")


@pytest.mark.parametrize("place", [0, 30])
def test_a_long_document_is_read(tmp_path, place):
    words = ["good day" if n % 2 else "bad night" for n in range(40)]
    words[place] += " x" * 600_000
    lines = [f'"{text}",{"uv"[n % 2]}' for n, text in enumerate(words)]
    path = write(tmp_path / "t.csv", "\n".join(["text,y", *lines]) + "\n")
    assert read_file(path, Columns(features=("text",))).size == 40


def test_json_lines_are_a_table(tmp_path):
    """The same rows as in CSV; what is no object in each line is refused."""
    plain = write(tmp_path / "t.csv", "a,code,y\n1.5,r,u\n,s,v\n3,r,u\n")
    lines = ['{"a": 1.5, "code": "r", "y": "u"}', '{"code": "s", "y": "v"}']
    lines.append('{"a": 3, "code": "r", "y": "u"}')
    rows = write(tmp_path / "t.jsonl.gz", "\n".join(lines) + "\n")
    one, other = read_file(plain), read_file(rows)
    assert torch.equal(one.x, other.x)
    assert (count(one.y), one.classes) == (count(other.y), other.classes)
    assert torch.equal(read_encoded(rows, Columns(), learn(plain)).x, one.x)
    for wrong in ("[1, 2]\n", '{"a": 1\n', '{"a": 1}\n{"a": {"b": 2}}\n'):
        with pytest.raises(ValueError, match="give an object in each line"):
            read_file(write(tmp_path / "t.jsonl", wrong))


@pytest.mark.parametrize("head", [",a,y", '"","a","y"', "Unnamed: 0,a,y", "a,y"])
def test_row_names_are_not_read(tmp_path, head):
    data = read_file(write(tmp_path / "t.csv", f"{head}\nMazda,1,u\nFiat,2,v\n"))
    assert data.columns == ("a",)
    assert data.x.tolist() == [[1], [2]]
    assert "taken for row names" in data.notes[0]


def test_a_header_that_is_missing_is_said(tmp_path):
    path = write(tmp_path / "t.csv", "5.1,2,0\n4,3,1\n")
    data = read_file(path, Columns(target="column3"))
    assert data.columns == ("column1", "column2")
    assert data.x.tolist() == [[5.1], [4]] or data.x[:, 1].tolist() == [2, 3]
    assert "has no header" in data.notes[0]
    counted = read_file(write(tmp_path / "c.csv", "0,1,2\n4,3,1\n"), Columns(target="2"))
    assert counted.columns == ("0", "1")


def test_blanks_behind_separators_are_nothing(tmp_path):
    data = read_file(write(tmp_path / "t.csv", "a, b, y\n1, 2, u\n3, ?, v\n"))
    assert data.columns == ("a", "b", "b is missing")
    assert data.x.tolist() == [[1, 2, 0], [3, 2, 1]]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a,b,y\n1,inf,u\n2,1,v\n", "'b' is inf in row 1"),
        ("a,w,y\n1,-1,u\n2,1,v\n", "weight 'w' is -1.0 in row 1"),
        ("a,w,y\n1,1,u\n2,,v\n", "weight 'w' is nan in row 2"),
    ],
)
def test_what_no_rule_covers_is_refused(tmp_path, text, words):
    weight = "w" if "w" in text else None
    with pytest.raises(ValueError, match=words):
        read_file(write(tmp_path / "t.csv", text), Columns(weight=weight))


def test_what_is_not_read_may_hold_anything(tmp_path):
    path = write(tmp_path / "t.csv", "a,note,b,y\n1,inf,,u\n2,x,inf,v\n")
    for said in (Columns(features=("a",)), Columns(drop=("note", "b"))):
        data = read_file(path, said)
        assert data.columns == ("a",)
        assert data.x.tolist() == [[1], [2]]
    with pytest.raises(ValueError, match=r"\['a'\] have two roles"):
        read_file(path, Columns(features=("a",), drop=("a",)))
    with pytest.raises(ValueError, match="no column features='z'"):
        read_file(path, Columns(features=("z",)))


def test_names_are_left_out_unless_asked_for(tmp_path):
    lines = [f"{place},who{place},{'uv'[place % 2]},{place % 3}" for place in range(30)]
    path = write(tmp_path / "t.csv", "\n".join(["a,name,kind,y", *lines]) + "\n")
    data = read_file(path)
    assert data.columns == ("a", "kind: u", "kind: v")
    assert any("'name' has 30 values in 30 rows" in note for note in data.notes)
    assert len(read_file(path, Columns(features=("name",))).columns) == 30


def test_a_column_named_like_a_client_is_pointed_at(tmp_path):
    path = write(tmp_path / "t.csv", "a,client_id,y\n1,7,u\n2,8,v\n")
    assert any("--group client_id" in note for note in read_file(path).notes)
    data = read_file(path, Columns(group="client_id"))
    assert data.notes == ()
    assert (data.holders, count(data.groups)) == (("7", "8"), [0, 1])


def test_a_number_by_hand():
    """Mean of 1 and 3 is 2; the second row is missing, and training knew of that."""
    values = column(arrow.array([1.0, None, 3.0, 100.0]))
    fitted = NumberEncoding("a").fit(values, np.array([0, 1, 2]))
    assert fitted == NumberEncoding("a", 2.0, gaps=True)
    assert fitted.apply(values).tolist() == [[1, 0], [2, 1], [3, 0], [100, 0]]
    assert NumberEncoding("a").fit(values, np.array([0, 2])).apply(values)[1].tolist() == [2]


def test_a_category_by_hand():
    """What training did not have is nothing; what was missing there is a value."""
    values = column(arrow.array(["v", "u", "NA", "w"]))
    fitted = CategoryEncoding("a").fit(values, np.array([0, 1, 2]))
    assert fitted == CategoryEncoding("a", ("u", "v", None))
    assert fitted.apply(values).tolist() == [[0, 1, 0], [1, 0, 0], [0, 0, 1], [0, 0, 0]]


def test_a_date_by_hand():
    """A quarter of the year 1970 has sine 1; noon is half a day, whose cosine is -1."""
    when = ["1970/01/01 00:00", "1970/01/01 12:00"]
    fitted = DateEncoding("a", "%Y/%m/%d %H:%M").fit(column(arrow.array(when)), None)
    days, sine, cosine, of_day, across = fitted.apply(column(arrow.array(when))).T
    assert days.tolist() == [0, 0.5]
    assert sine[0] == 0
    assert cosine[0] == 1
    assert abs(of_day[1]) < 1e-6
    assert across.tolist() == [1, -1]
    turn = 2 * math.pi * 91 / 365.2425
    one = DateEncoding("a", "").fit(column(arrow.array([91], arrow.date32())), None)
    assert one.apply(column(arrow.array([91], arrow.date32())))[0, 1] == pytest.approx(
        math.sin(turn), abs=1e-6
    )


@pytest.mark.parametrize(
    "written", ["2012-03-04", "2012/03/04", "03/04/2012", "Mar 4 2012", "04-Mar-2012", "4.3.2012"]
)
def test_dates_are_found_however_they_are_written(tmp_path, written):
    data = read_file(write(tmp_path / "t.csv", f"when,y\n{written},u\n{written},v\n"))
    assert data.columns[1] == "when: sine of year"
    assert data.x[0, 0] == 15403


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.one_of(st.none(), st.floats(-1e9, 1e9)), min_size=4, max_size=12),
    st.lists(st.sampled_from(["u", "v", "", "é", "0"]), min_size=4, max_size=12),
)
def test_an_encoding_is_the_same_after_it_was_saved(numbers, words):
    size = min(len(numbers), len(words))
    columns = {
        "a": column(arrow.array(numbers[:size], arrow.float64())),
        "b": column(arrow.array(words[:size]), "b"),
    }
    made = ColumnsEncoding((NumberEncoding("a"), CategoryEncoding("b"))).fit(
        columns, np.arange(size - 1)
    )
    again = ColumnsEncoding.from_json(json.loads(json.dumps(made.to_json())))
    assert again == made
    assert torch.equal(again.apply(columns), made.apply(columns))
    assert made.apply(columns).isfinite().all()
    assert len(made.names()) == made.apply(columns).shape[1] == len(made.measures())


def test_a_file_of_use_needs_the_columns_of_training_alone(tmp_path):
    """Further columns, row names, another order and another kind of file change nothing."""
    encoding = learn(write(tmp_path / "t.csv", "a,code,y\n1,01,u\n2,x,v\n"))
    plain = write(tmp_path / "p.csv", "code,a\n01,5\n1,\n")
    more = write(tmp_path / "m.csv", ",when,code,name,a\n0,2020-01-01,01,é,5\n1,?,1,inf,\n")
    pq.write_table(
        arrow.table({"a": [5, None], "code": ["01", "1"], "z": [[1], [2]]}), tmp_path / "p.parquet"
    )
    found = [
        read_encoded(path, Columns(), encoding).x.tolist()
        for path in (plain, more, tmp_path / "p.parquet")
    ]
    assert found == [[[5, 1, 0], [1.5, 0, 0]]] * 3
    with pytest.raises(ValueError, match=r"columns \['code'\] are missing"):
        read_encoded(write(tmp_path / "no.csv", "a\n1\n"), Columns(), encoding)


def test_a_word_where_a_number_was_in_training(tmp_path):
    encoding = learn(write(tmp_path / "t.csv", "a,y\n1,u\n2,v\n"))
    with pytest.raises(ValueError, match="column 'a' is 'many' in row 2, where a number is read"):
        read_encoded(write(tmp_path / "p.csv", "a\n1\nmany\n"), Columns(), encoding)
