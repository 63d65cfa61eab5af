"""What a user can get wrong: a clear message with the remedy, or the right result."""

import csv
import pickle
from dataclasses import replace

import numpy as np
import pytest
import torch

from moiety import load_model
from moiety.core.errors import RunError
from moiety.core.ledger import read_ledger
from moiety.core.rows import TableRows
from moiety.recipes.build import build_run
from moiety.run.loop import CHECKPOINTS, LEDGER
from moiety.serve.predictor import CONFIG, MODEL

ENGINES = ("serial", "vectorized", "pool")


def fit_words(small, words):
    """Leave out the options of the perceptron where another network is named."""
    if "--net" not in words:
        return small
    place = small.index("--mlp.hidden")
    return [*small[:place], *small[place + 2 :]]


def give(rows_of_one):
    """Change the rows of worker 3 behind the reader's back."""

    def change(built):
        def rows_of(worker):
            rows = built.open(worker)
            return rows_of_one(rows) if worker == 3 else rows

        return replace(built, open=rows_of)

    return change


def poisoned(rows):
    """Put one NaN among the inputs."""
    batch = {name: t.clone() for name, t in rows.take(torch.arange(rows.size)).items()}
    batch["x"][-1, 0] = float("nan")
    return TableRows(batch, torch.arange(rows.size))


def without(rows):
    return TableRows(rows.take(torch.arange(rows.size)), torch.arange(0))


def cut(rows):
    return TableRows(rows.take(torch.arange(rows.size)), torch.arange(1))


@pytest.mark.parametrize("engine", ENGINES)
def test_nan_in_the_data_of_a_worker(lab, tiny, lines, engine):
    run = lab.lay(tiny(engine=engine, participation={"size": 6, "anchors": -1}))
    with pytest.raises(RunError, match=r"worker 3, round 1, step \d+: the loss is nan"):
        lab.go(run, give(poisoned))
    end = lines(run)[-1]
    assert (end["status"], end["round"]) == ("failed", 0)
    assert "worker 3" in end["reason"]
    assert (run / CHECKPOINTS / "00000000").is_dir()
    assert not (run / "final").exists()


@pytest.mark.parametrize("engine", ENGINES)
def test_a_worker_without_rows(lab, tiny, lines, engine):
    run = lab.lay(tiny(engine=engine, participation={"size": 6, "anchors": -1}))
    with pytest.raises(RunError, match=r"worker 3, round 1.*(row|empty)"):
        lab.go(run, give(without))
    assert lines(run)[-1]["status"] == "failed"


@pytest.mark.parametrize("engine", ENGINES)
def test_a_worker_with_one_row_takes_part(lab, tiny, engine):
    run = lab.lay(tiny(engine=engine, participation={"size": 6, "anchors": -1}))
    lab.go(run, give(cut))
    works = [
        w for entry in read_ledger(run / LEDGER).rounds for w in entry.workers if w.worker == 3
    ]
    assert [(work.rows, work.steps) for work in works] == [(1, 1)] * 6
    assert all(np.isfinite(work.loss_last) for work in works)


@pytest.mark.parametrize("engine", ENGINES)
def test_a_batch_larger_than_the_data_is_all_the_data(lab, tiny, tensors, engine):
    """One step of gradient descent on all rows, by hand, of the single worker of a round."""
    record = tiny(
        engine=engine, rounds=1, local={"batch": 10_000, "momentum": 0.0},
        participation={"size": 1, "fixed": True},
    )  # fmt: skip
    run, built = lab.play(record), build_run(record, "fedavg", 0)
    rows, model = built.open(0), built.method.model
    first = {name: t.clone().requires_grad_() for name, t in (built.method.first or
             model.params).items()}  # fmt: skip
    batch = rows.take(torch.arange(rows.size))
    loss = torch.nn.functional.cross_entropy(model.logits(first, batch, {}), batch["y"])
    grads = torch.autograd.grad(loss, list(first.values()))
    after = tensors(run)
    for (name, value), grad in zip(first.items(), grads, strict=True):
        torch.testing.assert_close(after[name], (value - 0.1 * grad).detach())
    [work] = read_ledger(run / LEDGER).rounds[0].workers
    assert (work.worker, work.steps, work.rows) == (0, 1, rows.size)
    assert work.loss_first == pytest.approx(loss.item(), rel=1e-5)


def test_more_experts_a_worker_than_there_are(moiety, small, tmp_path):
    said = moiety("run", "yours", *small, "--ddome.experts", 3, "--ddome.k", 4,
                  "--out", "mine")  # fmt: skip
    assert said.code == 1
    assert "k=4 experts per worker, but the model has 3; choose fewer" in said.err
    assert not (tmp_path / "mine").exists()  # FedAvg, the first of the two, did not start either


@pytest.mark.parametrize(("words", "said"), [
    (["--population.workers", "1"], "workers=1 with anchors=2"),
    (["--population.unseen", "50"], "choose fewer"),
    (["--population.public", "0.9"], "choose smaller shares"),
    (["--population.public", "0"], "set some rows apart"),
    (["--population.scheme", "natural"], "no natural workers"),
    (["--population.scheme", "iid", "--population.workers", "5000"], "choose fewer workers"),
    (["--net", "cnn"], "network 'cnn' reads images, but the data are table"),
    (["--checkpoint.every", "0"], "both must be >= 1"),
    (["--participation.size", "0", "--participation.anchors", "-1"],
     "participation.size=0; choose at least 1"),
    (["--participation.size", "0", "--participation.fixed"],
     "participation.size=0; choose at least 1"),
    (["--population.validation", "nan"], "a share is no number, or below 0"),
    (["--population.validation", "-0.5"], "a share is no number, or below 0"),
    (["--common.target-accuracy", "nan"], "common.target_accuracy=nan; choose an accuracy"),
    (["--local.lr", "nan"], "local.lr=nan; choose a finite number"),
    (["--local.optimizer", "LBFGS"], "optimizer LBFGS cannot step"),
    (["--local.optimizer", "adam", "--local.momentum", "0.5"], "=0.5 is not read by local.opt"),
    (["--checkpoint.last", "0"], "both must be >= 1"),
    (["--keep.patience", "-1"], "keep.patience=-1"),
    (["--ddome.k", "9"], "k=9 experts per worker"),
    (["--ddome.loss", "hinge"], "mixture loss 'hinge'"),
    (["--ddome.experts", "1", "--ddome.k", "1"], "raise ddome.experts"),
])  # fmt: skip
def test_choices_that_do_not_fit(moiety, small, words, said):
    found = moiety("run", "yours", *fit_words(small, words), "--methods", "ddome", *words,
                   "--out", "mine")  # fmt: skip
    assert found.code == 1
    assert said in found.err
    assert "Traceback" not in found.err
    assert "common expert:" not in found.err  # it is not trained first


@pytest.mark.parametrize(("words", "said"), [
    (["--population.scheme", "lables"], "'lables'"),
    (["--net", "tree"], "unknown network 'tree'"),
    (["--local.optimizer", "sgdd"], "'sgdd'; choose 'sgd', 'adam' or 'adamw'"),
    (["--local.lr-schedule", "cosin"], "'cosin'; choose 'constant', 'cosine' or 'steps'"),
    (["--ddome.serve", "top2"], "'top2'"),
    (["--local.optimizer-state", "foo"], "local.optimizer_state='foo'; choose one of"),
])  # fmt: skip
def test_values_that_name_nothing_are_wrong_usage(moiety, small, tmp_path, words, said):
    found = moiety("run", "yours", *fit_words(small, words), "--methods", "ddome", *words,
                   "--out", "mine")  # fmt: skip
    assert found.code == 2
    assert said in found.err
    assert not (tmp_path / "mine").exists()


@pytest.mark.parametrize("engine", ENGINES)
def test_batches_of_one_row_for_a_network_with_norms(moiety, small, engine):
    """Its rows see each other: of one there are no statistics."""
    small = fit_words(small, ["--net"])
    found = moiety("run", "yours", *small, "--methods", "fedavg", "--net", "normed",
                   "--population.public", 0, "--population.anchors", 0,
                   "--participation.anchors", -1, "--local.batch", 1, "--engine", engine,
                   "--out", "mine")  # fmt: skip
    assert found.code == 1
    assert "but got one row; give 2 rows or more at a time (in training local.batch)" in found.err
    assert "channel when training" not in found.err  # torch's words


def test_one_row_for_a_model_whose_norms_were_not_calibrated(moiety, small, tmp_path, table):
    small = fit_words(small, ["--net"])
    words = (
        *("run", "yours", *small, "--methods", "ist", "--net", "normed", "--rounds", 1),
        *("--population.public", 0, "--population.anchors", 0, "--participation.anchors", -1),
    )
    with np.load(table) as raw:
        for count in (1, 2):
            np.savez(tmp_path / f"{count}.npz", x=raw["x"][:count])
    assert moiety(*words, "--ist.no-calibrate", "--out", "loose").code == 0
    found = moiety("predict", "loose", "--data", "1.npz")
    assert found.code == 1
    assert "but got one row; give 2 rows or more at a time" in found.err
    assert "fix the statistics for use (leave calibrate on" in found.err
    assert moiety("predict", "loose", "--data", "2.npz").code == 0
    assert moiety(*words, "--out", "fixed").code == 0
    assert moiety("predict", "fixed", "--data", "1.npz").code == 0


@pytest.mark.parametrize(("words", "said"), [
    (["--local.optimizer-state", "keep"], "use local.optimizer_state='reset' or 'send'"),
    (["--mlp.hidden", "3"], "axis 'h1': an axis of 3 cannot be assigned to 4 workers; widen"),
    (["--ist.keep", "0.5"],
     "ist.keep=0.5, but ist.assignment='round_robin' gives fair shares; leave keep at 0"),
    (["--methods", "gist"], "use a graph network (--net gcn or sage"),
    (["--ist.shared", "nosuch"], "shared: no axis fits 'nosuch': the model has the axes ['h1']"),
    (["--methods", "heterofl", "--heterofl.shared", "nosuch"], "no axis fits 'nosuch'"),
    (["--methods", "fjord", "--fjord.shared", "nosuch"], "no axis fits 'nosuch'"),
    (["--methods", "asyncdrop", "--asyncdrop.shared", "nosuch"], "no axis fits 'nosuch'"),
    (["--methods", "asyncdrop", "--asyncdrop.drop", "nan"], "drop=nan leaves nothing; choose a"),
    (["--methods", "diloco", "--diloco.server-lr", "-1"], "the server's lr=-1.0"),
    (["--methods", "diloco", "--diloco.server-lr", "nan"], "the server's lr=nan"),
    (["--methods", "diloco", "--local.optimizer", "adam"], "'adam', but diloco trains with adamw"),
    (["--methods", "diloco", "--diloco.server-momentum", "1.5"], "momentum=1.5; choose a finite"),
    (["--methods", "fedopt", "--fedopt.server-lr", "nan"], "the server's lr=nan"),
    (["--methods", "fedprox", "--fedprox.mu", "nan"], "mu=nan would push"),
    (["--participation.chance", "2"],
     "participation.chance=2.0; choose a chance above 0 and at most 1"),
    (["--participation.chance", "0"],
     "participation.chance=0.0; choose a chance above 0 and at most 1"),
    (["--participation.chance", "nan"],
     "participation.chance=nan; choose a chance above 0 and at most 1"),
    (["--local.drops", "2.0"], "local.drops=(2.0,); choose shares from 0 to 1"),
    (["--local.warmup", "nan"], "local.warmup=nan; choose a finite number of at least 0"),
    (["--local.window", "-1"], "local.window=-1; choose a finite number of at least 0"),
    (["--schedule.kind", "buffered", "--schedule.speeds.jitter", "nan"],
     "jitter=nan; seconds must be"),
    (["--schedule.kind", "windowed", "--schedule.window", "nan"], "window=nan"),
    (["--schedule.kind", "windowed", "--schedule.window", "inf"], "window=inf"),
    (["--population.scheme", "iid", "--population.workers", "5000"],
     "320 rows to assign in all, but 5002 workers (population.workers=5000, unseen=2) need 1 each"),
])  # fmt: skip
def test_what_cannot_be_is_refused_before_anything_is_written(moiety, small, tmp_path, words, said):
    found = moiety("run", "yours", *fit_words(small, words), "--methods", "ist", *words,
                   "--out", "mine")  # fmt: skip
    assert found.code == 1
    assert said in found.err
    assert not (tmp_path / "mine").exists()


def write(path, rows, header=("a", "b", "label")):
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([header, *rows])


@pytest.mark.parametrize(("rows", "said"), [
    ([[1, 2, "u"], [2, "inf", "v"]], "row 2"),
    ([], "row"),
])  # fmt: skip
def test_a_table_with_holes(moiety, tmp_path, rows, said):
    write(tmp_path / "holes.csv", rows)
    found = moiety("run", "yours", "--data", "holes.csv", "--out", "mine")
    assert found.code == 1
    assert "holes.csv" in found.err
    assert said in found.err
    assert not (tmp_path / "mine").exists()


def test_a_table_without_labels(moiety, tmp_path):
    write(tmp_path / "bare.csv", [[1, 2], [3, 4]], ("a", "b"))
    found = moiety("run", "yours", "--data", "bare.csv", "--out", "mine")
    assert found.code == 1
    assert "bare has no labels, and training needs them" in found.err
    assert "(--target COLUMN); its columns are a, b" in found.err


@pytest.mark.parametrize("command", ["predict", "personalize"])
def test_rows_of_another_width(moiety, played, tmp_path, command):
    np.savez(tmp_path / "wide.npz", x=np.zeros((3, 7), np.float32))
    out = ["--out", "mine"] if command == "personalize" else []
    found = moiety(command, played, "--data", "wide.npz", *out)
    assert found.code == 1
    assert "rows have shape (7,), but the model was trained on (6,)" in found.err
    assert "same columns in the same order" in found.err
    assert not (tmp_path / "mine").exists()


def test_rows_with_nan_at_predict(moiety, played, tmp_path):
    x = np.zeros((3, 6), np.float32)
    x[1, 4] = np.nan
    np.savez(tmp_path / "nan.npz", x=x)
    found = moiety("predict", played, "--data", "nan.npz")
    assert found.code == 1
    assert "row 2" in found.err
    with pytest.raises(ValueError, match="row 1 holds NaN or infinity; clean the data"):
        load_model(played).predict(torch.from_numpy(x))  # in Python rows are counted from 0


@pytest.mark.parametrize(("out", "said"), [
    ("missing/x.csv", "the folder missing does not exist; make it, or choose another"),
    (".", "--out . is a folder; name a file in it"),
])  # fmt: skip
def test_answers_that_cannot_be_written_are_refused_first(moiety, played, table, out, said):
    found = moiety("predict", played, "--data", table, "--out", out)
    assert found.code == 1
    assert said in found.err
    assert not found.out


def test_labels_that_the_model_does_not_know(moiety, played, tmp_path):
    np.savez(tmp_path / "odd.npz", x=np.zeros((2, 6), np.float32), y=np.array(["red", "pink"]))
    found = moiety("predict", played, "--data", "odd.npz")
    assert found.code == 1
    assert "labels ['pink'] are not among the model's classes" in found.err


@pytest.fixture
def model(played, tmp_path):
    """Copy a finished model."""
    folder = tmp_path / "model"
    folder.mkdir()
    for name in (MODEL, CONFIG):
        (folder / name).write_bytes((played / "final" / name).read_bytes())
    return folder


class Trap:
    """Leaves a file behind where it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


@pytest.mark.parametrize("kind", ["raw", "zip"])
def test_a_model_that_is_a_pickle(moiety, model, table, tmp_path, kind):
    trap = Trap(tmp_path / "sprung")
    if kind == "raw":
        (model / MODEL).write_bytes(pickle.dumps({"w": trap}))
    else:
        torch.save({"w": trap}, model / MODEL)
    found = moiety("predict", model, "--data", table)
    assert found.code == 1
    assert f"{model / MODEL} is a pickle" in found.err
    assert "safetensors.torch.save_file" in found.err
    assert not trap.path.exists()


@pytest.mark.parametrize("length", [0, 4, 100, -1])
def test_a_model_cut_short(moiety, model, table, length):
    (model / MODEL).write_bytes((model / MODEL).read_bytes()[:length])
    found = moiety("predict", model, "--data", table)
    assert found.code == 1
    assert f"{model / MODEL} is not a whole safetensors file" in found.err
    assert "copy it again" in found.err


@pytest.mark.parametrize(("text", "said"), [
    ("{", "not JSON"),
    ("[]", "model format None"),
    ('{"version": 0}', "model format 0"),
    ('{"version": 2}', "config.json was changed"),
])  # fmt: skip
def test_a_model_whose_configuration_is_none(moiety, model, table, text, said):
    (model / CONFIG).write_text(text)
    found = moiety("predict", model, "--data", table)
    assert found.code == 1
    assert said in found.err
    assert str(model) in found.err


def test_tensors_of_another_model(moiety, lab, tiny, model, table):
    other = lab.play(tiny(ddome={"experts": 4}), "ddome", "other")
    (model / MODEL).write_bytes((other / "final" / MODEL).read_bytes())
    found = moiety("predict", model, "--data", table)
    assert found.code == 1
    assert f"{model / MODEL} was changed; copy it again" in found.err


def test_a_run_without_a_finished_model(moiety, lab, tiny, table):
    run = lab.lay(tiny())
    found = moiety("predict", run, "--data", table)
    assert found.code == 1
    assert f"{run} has no finished model; go on with: moiety resume {run}" in found.err
    found = moiety("predict", table, "--data", table)
    assert found.code == 1
    assert "is a file; give the folder of a run" in found.err
    found = moiety("report", run)
    assert found.code == 1
    assert "has started; resume it first" in found.err


@pytest.mark.parametrize("experts", [0, 4, -1])
def test_a_personal_model_of_too_many_experts(moiety, played, table, tmp_path, experts):
    found = moiety("personalize", played, "--data", table, "--experts", experts, "--out", "mine")
    assert found.code == 1
    assert f"--experts {experts}, but the model has 3; choose 1 to 3" in found.err
    assert not (tmp_path / "mine").exists()


def test_a_personal_model_of_a_run_without_experts(moiety, lab, tiny, table):
    found = moiety("personalize", lab.play(tiny()), "--data", table, "--out", "mine")
    assert found.code == 1
    assert "no gated experts" in found.err


def test_a_recipe_for_your_data_asks_for_them(moiety):
    found = moiety("run", "yours")
    assert found.code == 1
    assert "say --data FILE" in found.err
