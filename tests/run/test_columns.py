"""Tables with columns in other units, in another order, or changed under a run."""

import csv
import json

import numpy as np
import pytest

from moiety.core.ledger import read_ledger
from moiety.run.loop import LEDGER

UNITS = ["--methods", "fedavg", "--rounds", "15", "--common.epochs", "3", "--out"]


def write(path, names, columns, labels):
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow([*names, "label"])
        writer.writerows(
            [*row, label] for row, label in zip(zip(*columns, strict=True), labels, strict=True)
        )


@pytest.fixture
def people():
    rng = np.random.default_rng(0)
    age, score = rng.normal(0, 1, 600), rng.normal(0, 1, 600)
    return age, score, rng.normal(0, 5e4, 600), np.where(age + score > 0, "yes", "no")


def accuracy(moiety, run, data):
    return json.loads(moiety("predict", run, "--data", data, "--json").out)["accuracy"]


def test_a_column_in_large_units_drowns_no_other(moiety, people, tmp_path):
    age, score, income, label = people
    write(tmp_path / "rich.csv", ["age", "score", "income"], [age, score, income], label)
    assert moiety("run", "yours", "--data", "rich.csv", *UNITS, "rich").code == 0
    assert accuracy(moiety, "rich", "rich.csv") > 0.9


def test_columns_are_found_by_name(moiety, people, tmp_path):
    age, score, income, label = people
    write(tmp_path / "one.csv", ["age", "score"], [age, 2 * score], label)
    write(tmp_path / "two.csv", ["score", "extra", "age"], [2 * score, income, age], label)
    write(tmp_path / "bad.csv", ["score", "extra"], [score, income], label)
    assert moiety("run", "yours", "--data", "one.csv", *UNITS, "mine").code == 0
    assert accuracy(moiety, "mine", "one.csv") == accuracy(moiety, "mine", "two.csv")
    found = moiety("predict", "mine", "--data", "bad.csv")
    assert found.code == 1
    assert "columns ['age'] are missing" in found.err


def test_a_run_does_not_go_on_with_other_data(moiety, people, tmp_path):
    age, score, _, label = people
    write(tmp_path / "one.csv", ["age", "score"], [age, score], label)
    assert moiety("run", "yours", "--data", "one.csv", *UNITS, "mine").code == 0
    write(tmp_path / "one.csv", ["age", "score"], [age[:300], score[:300]], label[:300])
    found = moiety("resume", "mine", "--at", "10")
    assert found.code == 1
    assert "are not those it began with" in found.err


@pytest.fixture
def mixed(tmp_path):
    """Write a table as people have it: row names, words, dates, gaps, hospitals, names."""
    rng = np.random.default_rng(3)
    kinds = np.array(["low", "mid", "high"])
    lines = []
    for place in range(240):
        kind = int(rng.integers(3))
        size = "" if place % 17 == 0 else f"{rng.normal(kind):.3f}"
        date = f"2020/{1 + place % 12:02}/03"
        house = "ABCDEFG"[place % 7]
        label = "sick" if kind else "well"
        lines.append(f"{place},{kinds[kind]},{size},{date},patient {place},{house},{label}")
    head = ",kind,size,seen,name,house,state"
    (tmp_path / "mixed.csv").write_text("\n".join([head, *lines]) + "\n")
    return [head, *lines]


FEW = ["--methods", "fedavg", "ddome", "--rounds", "25", "--local.lr", "0.2", "--out"]


def test_a_table_as_people_have_it(moiety, mixed, tmp_path):
    """Trained by naming the target alone; used on a file with other columns, order and words."""
    said = moiety("run", "yours", "--data", "mixed.csv", "--target", "state", *FEW, "own")
    assert said.code == 0, said.err
    assert "data: 240 rows of mixed.csv; features kind, size, seen, house (15 numbers)" in said.err
    assert (
        "target state (2 classes, scored by accuracy); workers 10 and 2 unseen (dirichlet)"
        in said.err
    )
    assert "'name' has 240 values in 240 rows" in said.err
    assert said.err.index("data: ") < said.err.index("common expert")
    for method in ("fedavg", "ddome"):
        assert accuracy(moiety, f"own/{method}-seed0", "mixed.csv") > 0.9
    other = ["state,extra,house,seen,size,kind", "sick,é,Z,2020/01/03,1.5,high", "well,,A,,,low"]
    (tmp_path / "other.csv").write_text("\n".join(other) + "\n")
    assert accuracy(moiety, "own/fedavg-seed0", "other.csv") == 1.0
    done = moiety("personalize", "own/ddome-seed0", "--data", "other.csv", "--out", "mine")
    assert done.code == 0, done.err
    assert accuracy(moiety, "mine", "other.csv") == 1.0
    for line in moiety("resume", "own").err, said.err:
        assert "Traceback" not in line


def test_columns_are_chosen_and_left_out(moiety, mixed):
    words = ["run", "yours", "--data", "mixed.csv", "--target", "state", "--methods", "fedavg",
             "--rounds", "2"]  # fmt: skip
    said = moiety(*words, "--features", "kind", "size", "--out", "two")
    assert "features kind, size (5 numbers)" in said.err
    said = moiety(*words, "--drop", "seen,name", "house", "--out", "three")
    assert "features kind, size (5 numbers)" in said.err
    assert "house" not in said.err
    assert moiety("run", "quickstart", "--drop", "x", "--out", "no").code == 1


def test_rows_to_test_on_come_from_a_file_of_their_own(moiety, mixed, tmp_path):
    (tmp_path / "train.csv").write_text("\n".join(mixed[:181]) + "\n")
    (tmp_path / "apart.csv").write_text("\n".join([mixed[0], *mixed[181:]]) + "\n")
    said = moiety("run", "yours", "--data", "train.csv", "--target", "state", "--test", "apart.csv",
                  *FEW, "own")  # fmt: skip
    assert said.code == 0, said.err
    groups = read_ledger(tmp_path / "own" / "fedavg-seed0" / LEDGER).evaluations[-1].groups
    assert groups["test"].rows == [60]
    assert groups["test"].metrics["accuracy"][0] > 0.9
    (tmp_path / "apart.csv").write_text(f"{mixed[0]}\n1,low,1,2020/01/03,x,A,dead\n")
    said = moiety("run", "yours", "--data", "train.csv", "--target", "state", "--test", "apart.csv",
                  *FEW, "no")  # fmt: skip
    assert said.code == 1
    assert "apart.csv has labels ['dead'], which train.csv has not" in said.err


def test_what_is_odd_of_a_target_is_said(moiety, tmp_path):
    lines = [f"{place},{place * 7919 % 1000}" for place in range(100)]
    (tmp_path / "many.csv").write_text("a,price\n" + "\n".join(lines) + "\n")
    (tmp_path / "one.csv").write_text("a,price\n" + "\n".join(f"{n},3" for n in range(100)) + "\n")
    words = ["--target", "price", "--methods", "fedavg", "--rounds", "1", "--out"]
    said = moiety("run", "yours", "--data", "many.csv", *words, "many")
    assert "100 classes for 100 rows: is it a number to predict?" in said.err
    said = moiety("run", "yours", "--data", "one.csv", *words, "one")
    assert "target 'price' has one class only, '3'" in said.err


def test_workers_are_who_a_column_says_and_keep_their_names(moiety, mixed, tmp_path):
    """Seven hospitals hold their own rows; each is named in the ledger, report and answers."""
    said = moiety("run", "yours", "--data", "mixed.csv", "--target", "state", "--group", "house",
                  "--drop", "name", *FEW, "own")  # fmt: skip
    assert said.code == 0, said.err
    start = read_ledger(tmp_path / "own" / "fedavg-seed0" / LEDGER).start
    assert sorted(start.worker_names) == list("ABCDEFG")
    assert (start.num_seen, start.num_unseen) == (5, 2)
    seen, unseen = (", ".join(names) for names in (start.worker_names[:5], start.worker_names[5:]))
    assert f"workers 5 and 2 unseen, by house: {seen}; unseen: {unseen}" in said.err
    page = (tmp_path / "own" / "report.html").read_text()
    assert all(f">{name}<" in page for name in start.worker_names)
    assert accuracy(moiety, "own/ddome-seed0", "mixed.csv") > 0.9


def test_rows_of_a_worker_are_answered_as_its_own(moiety, mixed, tmp_path):
    """The gate chooses experts for each hospital apart, as it would for a file of its rows."""
    assert moiety("run", "yours", "--data", "mixed.csv", "--target", "state", "--group", "house",
                  *FEW[:1], "ddome", *FEW[3:], "own").code == 0  # fmt: skip
    told = {}
    for name, house in (("all", ""), ("one", "C")):
        lines = [line for line in mixed[1:] if f",{house}," in line or not house]
        (tmp_path / f"{name}.csv").write_text("\n".join([mixed[0], *lines]) + "\n")
        said = moiety("predict", "own", "--data", f"{name}.csv", "--out", f"{name}.told")
        assert said.code == 0, said.err
        told[name] = (tmp_path / f"{name}.told").read_text().splitlines()[1:]
    mine = [row for row, line in zip(told["all"], mixed[1:], strict=True) if ",C," in line]
    assert mine == told["one"]


@pytest.mark.parametrize(("targets", "kind"), [("u,v", "numbers"), ("p,q", "labels")])
def test_several_targets_to_the_end(moiety, tmp_path, targets, kind):
    """Trained, told of one worker, and answered column by column, with and without targets."""
    rng = np.random.default_rng(0)
    a = rng.normal(size=(60, 2))
    found = {"u": a[:, 0] * 5 + 100, "v": -a[:, 1], "p": a[:, 0] > 0, "q": a[:, 1] > 0}
    names = targets.split(",")
    rows = [[*one, *(float(found[name][n]) for name in names)] for n, one in enumerate(a)]
    lines = [",".join(["a", "b", *names]), *(",".join(f"{x:g}" for x in row) for row in rows)]
    (tmp_path / "own.csv").write_text("\n".join(lines) + "\n")
    said = moiety("run", "yours", "--data", "own.csv", "--target", targets, "--methods", "ddome",
                  "--rounds", "2", "--ddome.experts", "2", "--out", "run")  # fmt: skip
    assert said.code == 0, said.err
    (tmp_path / "bare.csv").write_text("\n".join(line.rsplit(",", 2)[0] for line in lines) + "\n")
    said = moiety("personalize", "run", "--data", "bare.csv", "--experts", "1", "--out", "mine")
    assert said.code == 0, said.err
    assert said.out.splitlines()[2].split()[0] == kind
    assert f"rows routed to these experts in the last evaluation, by {names[0]}" in said.out
    whole = json.loads(moiety("predict", "mine", "--data", "own.csv", "--json").out)
    bare = json.loads(moiety("predict", "mine", "--data", "bare.csv", "--json").out)
    assert set(whole["metrics"]) >= {"rmse" if kind == "numbers" else "micro_f1"}
    assert not bare["metrics"]
    turned = ",".join(reversed(names))
    told = moiety("predict", "mine", "--data", "own.csv", "--target", turned, "--json").out
    assert json.loads(told)["metrics"] == whole["metrics"]
    for name in names:
        assert whole[name] == bare[name]
        assert len(whole[name]) == 60
    if kind == "numbers":
        assert np.mean(whole["u"]) == pytest.approx(100, abs=5)
