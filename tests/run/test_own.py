"""What people bring to ``moiety.train``: rows, names, modules; what tells one call from others."""

import json
from dataclasses import replace
from functools import partial

import pytest
import torch
from torch import nn
from torch.utils.data import Dataset, IterableDataset, TensorDataset

import moiety
from moiety.core.errors import RunError
from moiety.core.ledger import read_ledger
from moiety.core.rows import TableRows
from moiety.run.own_settings import SETTINGS, write_differences


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


def table(rows=90, dtype=torch.float32):
    x = torch.randn(rows, 6, generator=rng())
    return {"x": x.to(dtype), "y": (x[:, 0] > 0).long() + (x[:, 1] > 0.8).long()}


def deal(columns, count=3):
    size = len(columns["y"])
    return {w: TableRows(columns, torch.arange(w, size, count)) for w in range(count)}


def fill(module, seed=1):
    """Give a module addressed first values."""
    for tensor in module.parameters():
        drawn = torch.randn(tensor.shape, generator=rng(seed)) * 0.3
        tensor.data = drawn.to(tensor.dtype)
    return module


def linear():
    return fill(nn.Linear(6, 3))


HOW = moiety.TrainConfig(rounds=2, local=moiety.LocalTraining(batch=8))


def changed(name):
    """Give a call that differs from the plain one in one thing, and the field that says so."""
    local = moiety.LocalTraining(batch=8)
    columns = table()
    other = {**columns, "x": columns["x"] + 1e-3}
    sorted_out = {w: TableRows(columns, torch.arange(30) + 30 * w) for w in range(3)}
    prox = moiety.METHODS["fedprox"].make
    return {
        "lr": (linear(), deal(columns), replace(HOW, local=replace(local, lr=0.5)), "local.lr"),
        "optimizer": (
            linear(), deal(columns), replace(HOW, local=replace(local, optimizer="adam")),
            "local.optimizer",
        ),
        "method": (linear(), deal(columns), replace(HOW, method="fedprox"), "how.method"),
        "option": (
            linear(), deal(columns), replace(HOW, method=partial(prox, mu=0.3)), "how.method"
        ),
        "values": (fill(nn.Linear(6, 3), 2), deal(columns), HOW, r"first values: seed torch"),
        "rows": (linear(), deal(other), HOW, "data.rows.worker 0"),
        "hands": (linear(), sorted_out, HOW, "data.rows.worker 0"),
        "names": (linear(), dict(zip("abc", deal(columns).values(), strict=True)), HOW, "data"),
        "seed": (linear(), deal(columns), replace(HOW, seed=1), "how.seed"),
        "dropout": (
            nn.Sequential(nn.Dropout(0.1), linear()), deal(columns), HOW, r"method\.model"
        ),
        "engine": (linear(), deal(columns), replace(HOW, engine="vectorized"), "engine"),
    }[name]  # fmt: skip


@pytest.mark.parametrize(
    "name",
    ["lr", "optimizer", "method", "option", "values", "rows", "hands", "names", "seed", "dropout",
     "engine"],
)  # fmt: skip
def test_another_call_on_a_folder_is_refused_with_what_differs(tmp_path, name):
    folder = tmp_path / "run"
    moiety.train(linear(), deal(table()), folder, HOW)
    before = (folder / "ledger.jsonl").read_bytes()
    what, workers, how, said = changed(name)
    with pytest.raises(RunError, match=f"holds a run with other settings: .*{said}"):
        moiety.train(what, workers, folder, how)
    assert (folder / "ledger.jsonl").read_bytes() == before


def test_the_same_call_goes_on_and_may_write_checkpoints_otherwise(tmp_path):
    folder = tmp_path / "run"
    first = moiety.train(linear(), deal(table()), folder, HOW)
    policy = moiety.core.checkpoints.CheckpointPolicy(every=1)
    again = moiety.train(linear(), deal(table()), folder, replace(HOW, checkpoint=policy))
    assert torch.equal(first.params["weight"], again.params["weight"])
    raw = json.loads((folder / SETTINGS).read_text())
    raw["leaves"]["how.seed"] = "9"
    (folder / SETTINGS).write_text(json.dumps(raw))
    with pytest.raises(RunError, match="was changed"):
        moiety.train(linear(), deal(table()), folder, HOW)


def test_what_cannot_be_told_from_others_is_said(tmp_path):
    generator = (one for one in [1])
    model = moiety.from_module(linear(), call=lambda net, b: net(b["x"]) if generator else b["x"])
    with pytest.warns(UserWarning, match=r"generator'\] cannot be told from others"):
        moiety.train(model, deal(table()), tmp_path / "run", HOW)


class Pairs(Dataset):
    def __init__(self, columns, ids):
        self.columns, self.ids = columns, ids

    def __len__(self):
        return len(self.ids)

    def __getitem__(self, place):
        row = self.ids[place]
        return self.columns["x"][row], int(self.columns["y"][row])


class HubRows:
    """Rows as a data set of Hugging Face gives them: mappings of plain lists, by number."""

    column_names = ("x", "label")

    def __init__(self, columns, ids):
        self.columns, self.ids = columns, ids

    def __len__(self):
        return len(self.ids)

    def __getitem__(self, place):
        row = self.ids[place]
        return {"x": self.columns["x"][row].tolist(), "label": int(self.columns["y"][row])}

    def take(self, n):
        return HubRows(self.columns, self.ids[:n])


class Endless(IterableDataset):
    def __iter__(self):
        yield torch.zeros(6), 0


def frame(part):
    pandas = pytest.importorskip("pandas")
    columns = {f"c{i}": part["x"][:, i].numpy() for i in range(6)}
    return pandas.DataFrame({**columns, "y": part["y"].numpy()})


def forms(columns, ids):
    part = {name: column[ids] for name, column in columns.items()}
    return {
        "table": TableRows(columns, ids),
        "tensors": part,
        "arrays": {name: column.numpy() for name, column in part.items()},
        "doubles": {"x": part["x"].double().numpy(), "y": part["y"].tolist()},
        "dataset": Pairs(columns, ids),
        "tensor dataset": TensorDataset(part["x"], part["y"]),
        "hub": HubRows(columns, ids),
        "list": list(zip(part["x"], part["y"], strict=True)),
        "tuple": (part["x"].numpy(), part["y"].tolist()),
    }


@pytest.mark.parametrize("form", list(forms(table(), torch.arange(3))))
def test_rows_come_as_people_have_them_with_the_same_numbers(tmp_path, form):
    columns = table()
    plain = deal(columns)
    wanted = moiety.train(linear(), plain, tmp_path / "plain", HOW)
    workers = {w: forms(columns, rows.index)[form] for w, rows in plain.items()}
    found = moiety.train(linear(), workers, tmp_path / "run", HOW)
    assert torch.equal(found.params["weight"], wanted.params["weight"])
    assert moiety.load_model(tmp_path / "run", linear()).predict(columns["x"]).shape == (90,)


def test_columns_of_a_frame_are_passed_by_name(tmp_path):
    class Sum(nn.Module):
        def __init__(self):
            super().__init__()
            self.out = linear()

        def forward(self, c0, c1, c2, c3, c4, c5):
            return self.out(torch.stack([c0, c1, c2, c3, c4, c5], 1))

    columns = table()
    part = {name: column[:40] for name, column in columns.items()}
    moiety.train(Sum(), {"all": frame(part)}, tmp_path / "run", HOW)
    served = moiety.load_model(tmp_path / "run", module=Sum())
    told = served.predict({f"c{i}": columns["x"][:, i] for i in range(6)})
    assert told.shape == (90,)


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ({"x": torch.zeros(3, 6)}, "none of them 'y', which is the target"),
        ({"x": torch.zeros(3, 6), "y": torch.zeros(2)}, "columns have lengths {'x': 3, 'y': 2}"),
        ({"x": ["a", "b"], "y": [0, 1]}, "column 'x' holds str, not numbers"),
        ({"x": [[1.0], [1.0, 2.0]], "y": [0, 1]}, "column 'x' holds float, not numbers of one"),
        ([(torch.zeros(6), 0), (torch.zeros(5), 1)], r"rows of shapes \[\(5,\), \(6,\)\]; pad"),
        ([(1, 2, 3)], "a row is a tuple of 3; make it a pair"),
        (torch.zeros(3, 6), "Tensor alone has no target"),
        ("rows.csv", "str is no rows; give TableRows"),
        (Endless(), "no rows by number; read it into a list"),
        ({"x": torch.zeros(3, 6), "y": torch.zeros(3), "weight": torch.ones(3)}, "rename them"),
        (
            {"x": torch.full((3, 6), torch.nan), "y": torch.zeros(3).long()},
            "row 0: column 'x' holds NaN",
        ),
        ({"x": torch.zeros(3, 5), "y": torch.zeros(3).long()}, r"x is float32 \[N, 5\], but that"),
        ({"x": torch.zeros(3, 6).double(), "y": torch.zeros(3).long()}, "x is float64"),
        ({"x": torch.zeros(3, 6), "z": torch.zeros(3), "y": torch.zeros(3).long()}, "z is float32"),
    ],
)
def test_rows_that_do_not_fit_are_refused_before_anything_is_written(tmp_path, source, said):
    workers = {"good": table(), "bad": source}
    with pytest.raises((ValueError, TypeError), match=said) as told:
        moiety.train(linear(), workers, tmp_path / "run", HOW)
    assert "'bad'" in str(told.value)
    assert not (tmp_path / "run").exists()


def test_every_row_is_looked_at(tmp_path):
    columns = table(9000)
    columns["x"][8765, 3] = torch.inf
    with pytest.raises(ValueError, match="worker 'all', row 8765: column 'x' holds NaN or inf"):
        moiety.train(linear(), {"all": columns}, tmp_path / "run", HOW)


def test_names_stay_and_a_worker_without_rows_is_left_out(tmp_path):
    columns = table()
    parts = deal(columns)
    workers = {"north": parts[0], "empty": TableRows(columns, torch.arange(0)), "south": parts[1]}
    test = {
        "seen": {"south": parts[1], "north": parts[0], "empty": parts[2]},
        "unseen": {"west": parts[2]},
    }
    with pytest.warns(UserWarning, match="worker 'empty' has no rows and is left out"):
        moiety.train(linear(), workers, tmp_path / "run", HOW, test=test)
    ledger = read_ledger(tmp_path / "run" / "ledger.jsonl")
    assert (ledger.start.num_seen, ledger.start.num_unseen) == (2, 1)
    assert list(ledger.start.worker_names) == ["north", "south", "west"]
    assert [work.worker for work in ledger.rounds[0].workers] == [0, 1]
    groups = ledger.evaluations[-1].groups
    assert (list(groups["seen"].workers), list(groups["unseen"].workers)) == ([1, 0], [2])
    with pytest.raises(ValueError, match=r"test\['seen'\] has \['east'\], which are no workers"):
        moiety.train(
            linear(), {"north": parts[0]}, tmp_path / "no", HOW, test={"seen": {"east": parts[1]}}
        )


def test_a_worker_that_fails_is_called_by_its_name(tmp_path):
    class Fails(nn.Module):
        def __init__(self):
            super().__init__()
            self.out = nn.Linear(6, 3)

        def forward(self, x):
            assert x.shape[0] != 7, "seven"
            return self.out(x)

    columns = table()
    workers = {
        "six": TableRows(columns, torch.arange(6)),
        "seven": TableRows(columns, torch.arange(7)),
    }
    with pytest.raises(RunError, match=r"(?s)worker 1, round 1.*\(worker 1 is 'seven'\)"):
        moiety.train(fill(Fails()), workers, tmp_path / "run", HOW)


def test_only_workers_without_rows(tmp_path):
    with (
        pytest.warns(UserWarning, match="left out"),
        pytest.raises(ValueError, match="no worker has a row"),
    ):
        moiety.train(linear(), {"a": TableRows(table(), torch.arange(0))}, tmp_path / "run", HOW)


class Sums(nn.Module):
    """Inputs of two names, one of them a single number a row."""

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(6, 3), nn.Linear(1, 3)

    def forward(self, a, b):
        return self.a(a) + self.b(b[:, None])


def test_inputs_of_several_names_work_to_the_end(tmp_path):
    x = table()
    columns = {"a": x["x"], "b": x["x"][:, 0], "y": x["y"]}
    net = fill(Sums())
    state = moiety.train(net, deal(columns), tmp_path / "run", HOW)
    served = moiety.load_model(tmp_path / "run", module=net)
    inputs = {"a": columns["a"], "b": columns["b"]}
    net.load_state_dict(dict(state.params))
    wanted = net(**inputs).argmax(1)
    assert torch.equal(served.predict(inputs), wanted)
    arrays = {name: one.double().numpy() for name, one in inputs.items()}
    assert torch.equal(served.predict(arrays), wanted)
    for wrong, said in [
        (columns["a"], r"the model takes the columns \['a', 'b'\]; give them by name"),
        ({"a": columns["a"]}, r"columns \['b'\] are missing"),
        ({**inputs, "b": columns["a"]}, r"b has shape \[90, 6\], but .* \[N\]"),
        ({**inputs, "b": columns["b"][:5]}, "columns have lengths"),
        ({**inputs, "b": columns["b"] / 0}, "b, row 0: NaN or infinity"),
    ]:
        with pytest.raises(ValueError, match=said):
            served.predict(wrong)


def test_inputs_of_one_number_a_row(tmp_path):
    class Bins(nn.Module):
        def __init__(self):
            super().__init__()
            self.out = nn.Linear(1, 3)

        def forward(self, x):
            return self.out(x[:, None])

    x = table()
    columns = {"x": x["x"][:, 0], "y": x["y"]}
    moiety.train(fill(Bins()), deal(columns), tmp_path / "run", HOW)
    served = moiety.load_model(tmp_path / "run", module=Bins())
    assert served.predict(columns["x"]).shape == (90,)
    assert served.predict(columns["x"].numpy()).shape == (90,)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
@pytest.mark.parametrize("engine", ["serial", "vectorized", "pool"])
def test_modules_of_other_precision_work_to_the_end(tmp_path, dtype, engine):
    columns = table(dtype=dtype)
    net = linear().to(dtype)
    state = moiety.train(net, deal(columns), tmp_path / "run", replace(HOW, engine=engine))
    assert state.params["weight"].dtype is dtype
    served = moiety.load_model(tmp_path / "run", module=net)
    told = served.predict(columns["x"])
    assert torch.equal(served.predict(columns["x"].float().numpy()), told)
    assert torch.equal(served.predict(columns["x"].double()), told)
    net.load_state_dict(dict(state.params))
    assert torch.equal(net(columns["x"]).argmax(1), told)


def test_a_module_that_fails_is_refused_before_anything_is_written(tmp_path):
    class Pair(nn.Module):
        def __init__(self):
            super().__init__()
            self.out = nn.Linear(6, 3)

        def forward(self, x):
            return self.out(x), x

    cases = [
        (nn.Linear(5, 3), "fails on a first batch: mat1 and mat2 shapes cannot be multiplied"),
        (nn.Linear(6, 2), "but there are 3 classes"),
        (Pair(), "returns a tuple, not a tensor of outputs"),
        (nn.Linear(6, 3).requires_grad_(requires_grad=False), "nothing to train"),
    ]
    for net, said in cases:
        with pytest.raises(ValueError, match=said):
            moiety.train(fill(net), deal(table()), tmp_path / "run", HOW)
    lazy = (nn.LazyLinear(3), r"\['weight', 'bias'\] have no shape yet; call the module on a batch")
    odd = [
        ("linear", "is no module; give a torch"),
        (nn.Linear, "is no module; give a torch"),
        lazy,
    ]
    for net, said in odd:
        with pytest.raises(ValueError, match=said):
            moiety.train(net, deal(table()), tmp_path / "run", HOW)
    assert not (tmp_path / "run").exists()


def test_a_method_that_is_given_is_tried_as_well(tmp_path):
    method = moiety.METHODS["fedavg"].make(moiety.Task(moiety.from_module(nn.Linear(5, 3))))
    workers = dict(zip(["north", "south", "west"], deal(table()).values(), strict=True))
    plain = moiety.TrainConfig(rounds=1)
    with pytest.raises(ValueError, match=r"worker 0 \('north'\), first batch: mat1 and mat2"):
        moiety.train(method, workers, tmp_path / "run", plain)
    with pytest.raises(ValueError, match="of a plain module, but a method was given"):
        moiety.train(method, workers, tmp_path / "run", HOW)
    drawing = moiety.from_module(linear(), call=lambda net, b: net(nn.functional.dropout(b["x"])))
    method = moiety.METHODS["fedavg"].make(moiety.Task(drawing))
    with pytest.raises(ValueError, match=r"say from_module\(module, draws_noise=True\)"):
        moiety.train(method, workers, tmp_path / "run", plain)


def test_noise_of_a_plain_module_is_found_and_repeated(tmp_path):
    class Noisy(nn.Module):
        def __init__(self):
            super().__init__()
            self.out = nn.Linear(6, 3)

        def forward(self, x):
            return self.out(nn.functional.dropout(x, 0.5, self.training))

    found = []
    for seed in (10, 11):
        torch.default_generator.manual_seed(seed)
        folder = tmp_path / str(seed)
        found.append(moiety.train(fill(Noisy()), deal(table()), folder, HOW).params["out.weight"])
    assert torch.equal(*found)
    still = moiety.train(linear(), deal(table()), tmp_path / "still", HOW).params["weight"]
    assert not torch.equal(found[0], still)


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU])
def test_auto_gives_what_cannot_be_stacked_to_the_pool(tmp_path, kind):
    class Recurrent(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer, self.out = kind(3, 4, batch_first=True), nn.Linear(4, 3)

        def forward(self, x):
            return self.out(self.layer(x)[0][:, -1])

    columns = table(100)
    columns = {**columns, "x": columns["x"].reshape(-1, 2, 3)}
    for net, wanted in (
        (Recurrent(), "pool"),
        (nn.Sequential(nn.Flatten(), linear()), "vectorized"),
    ):
        folder = tmp_path / wanted
        moiety.train(fill(net), deal(columns, 10), folder, replace(HOW, rounds=1))
        assert read_ledger(folder / "ledger.jsonl").start.engine == wanted


def test_numbers_that_do_not_fit_are_refused(tmp_path):
    for how, said in [
        (replace(HOW, size=4), "size=4 of 3 workers"),
        (replace(HOW, evaluate_every=-1), "evaluate_every=-1"),
        (replace(HOW, method="fedavgg"), "fedavg"),
        (replace(HOW, local=moiety.LocalTraining(batch=0)), "batch=0"),
    ]:
        with pytest.raises(ValueError, match=said):
            moiety.train(linear(), deal(table()), tmp_path / "run", how)
    with pytest.raises(ValueError, match="mapping from names to rows"):
        moiety.train(linear(), {}, tmp_path / "run", HOW)
    assert not (tmp_path / "run").exists()


def test_a_group_of_test_rows_that_nothing_reads_is_refused(tmp_path):
    workers = {0: {"x": torch.zeros(4, 2), "y": torch.zeros(4).long()}}
    with pytest.raises(ValueError, match="test group 'sen'; did you mean 'seen'"):
        moiety.train(linear(), workers, tmp_path, HOW, test={"sen": workers})
    assert not list(tmp_path.iterdir())


def test_several_processes_of_torchrun_are_told_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "0")
    workers = {0: {"x": torch.zeros(4, 2), "y": torch.zeros(4).long()}}
    with pytest.raises(RunError, match=r"train\(\) plays in one; start it without torchrun"):
        moiety.train(linear(), workers, tmp_path, HOW)
    assert not list(tmp_path.iterdir())


def test_a_model_is_loaded_with_the_module_that_it_was_made_of(tmp_path):
    workers = {0: {"x": torch.zeros(4, 2), "y": torch.zeros(4).long()}}
    moiety.train(nn.Sequential(nn.Linear(2, 3)), workers, tmp_path / "run", HOW)
    with pytest.raises(RunError, match=r"another than that of the run: weight is \[3, 2\], saved"):
        moiety.load_model(tmp_path / "run", nn.Linear(2, 3))
    wider = nn.Sequential(nn.Linear(3, 3))
    with pytest.raises(RunError, match=r"0.weight is \[3, 3\], saved was \[3, 2\]; give a module"):
        moiety.load_model(tmp_path / "run", wider)


def test_a_refusal_names_what_was_said_and_not_the_method_made_of_it():
    was = {"how.local.lr": "0.1", "method.solve.rules.0.1.lr": "0.1", "data.workers[0]": "a"}
    now = {**was, "how.local.lr": "0.2", "method.solve.rules.0.1.lr": "0.2"}
    assert write_differences(was, now) == ["how.local.lr is 0.2, was 0.1"]
    own = {**was, "method.solve.rules.0.1.lr": "0.2"}  # of a method that was given
    assert write_differences(was, own) == ["LocalTraining.lr is 0.2, was 0.1"]


@pytest.mark.parametrize(("changes", "said"), [
    ({"rounds": "2"}, r"TrainConfig.rounds='2' is a str; give an int"),
    ({"size": 1.5}, r"TrainConfig.size=1.5 is a float; give an int"),
    ({"seed": True}, "seed=True is a bool; give an int"),
    ({"local": {"lr": 0.1}}, r"local=\{'lr': 0.1\} is a dict; give a LocalTraining or None"),
    ({"keep": "best"}, "keep='best' is a str; give a Keep"),
    ({"log": "wandb"}, "log='wandb' is a str; give a tuple"),
    ({"checkpoint": 3}, "checkpoint=3 is an int; give a CheckpointPolicy"),
    ({"device": "gpu"}, "unknown device 'gpu'; choose 'cpu' or 'cuda'"),
    ({"device": "cuda:99"}, "machine has .* GPUs; choose 'cpu'"),
    ({"method": "ist"}, r"nothing to assign.*name axes with from_module\(net, axes="),
    ({"method": "ddome"}, r"needs a common expert.*METHODS\[name\].make\(Task\("),
])  # fmt: skip
def test_values_of_other_kinds_are_refused_with_the_remedy(tmp_path, changes, said):
    with pytest.raises((ValueError, RunError), match=said):
        moiety.train(linear(), deal(table()), tmp_path / "run", replace(HOW, **changes))
    assert not (tmp_path / "run").exists()


def test_numbers_that_are_none_and_records_that_are_none(tmp_path):
    with pytest.raises(ValueError, match=r"local\.lr='0.1' is a str; give a float"):
        moiety.Task(moiety.from_module(linear()), moiety.LocalTraining(lr="0.1"))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"is a dict; give moiety.TrainConfig\(rounds"):
        moiety.train(linear(), deal(table()), tmp_path, {"rounds": 2})  # type: ignore[arg-type]


def test_a_wrong_label_is_told_with_its_worker_and_row(tmp_path):
    workers = {
        name: deal(table())[place].take(torch.arange(30)) for place, name in enumerate("abc")
    }
    workers["b"]["y"][4] = 17
    said = r"18 classes .*the highest, 17, in row 4 of worker 1 \('b'\); give it"
    with pytest.raises(ValueError, match=said):
        moiety.train(linear(), workers, tmp_path / "run", HOW)
