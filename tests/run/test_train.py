"""``moiety.train``: a run of one's own method, module and workers."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

import moiety
from moiety.core.errors import RunError
from moiety.core.ledger import read_ledger
from moiety.methods.demo import make_two_class_workers
from moiety.run.cli import main


def world():
    task, data = make_two_class_workers(torch.Generator().manual_seed(0))
    return task, {worker: data[worker] for worker in sorted(data)}


def module():
    net = nn.Sequential(nn.Linear(8, 12), nn.BatchNorm1d(12), nn.ReLU(), nn.Linear(12, 6))
    rng = torch.Generator().manual_seed(1)
    for tensor in net.parameters():
        tensor.data = torch.randn(tensor.shape, generator=rng) * 0.3
    return moiety.from_module(net)


def test_a_module_of_ones_own_runs_resumes_and_loads(tmp_path):
    _, workers = world()
    method = moiety.METHODS["fedavg"].make(
        moiety.Task(module(), moiety.LocalTraining(lr=0.05, batch=16))
    )
    how = moiety.TrainConfig(rounds=6, evaluate_every=3, seed=3)
    whole = moiety.train(method, workers, tmp_path / "whole", how, test={"seen": workers})
    ledger = read_ledger(tmp_path / "whole" / "ledger.jsonl")
    assert [entry.round for entry in ledger.rounds] == [1, 2, 3, 4, 5, 6]
    assert ledger.end is not None
    assert ledger.end.status == "finished"
    x = workers[0].take(torch.arange(10))["x"]
    served = moiety.load_model(tmp_path / "whole", module=module())
    wanted = method.serve.scores(whole.params, {"x": x}, {}).argmax(-1)
    assert torch.equal(served.predict(x), wanted)
    assert torch.equal(served.predict(x.double().numpy()), wanted)  # as numpy has numbers
    with pytest.raises(ValueError, match="array of <U1 was given; give numbers"):
        served.predict(np.array(["a"]))


def test_a_run_of_ones_own_is_reported_and_resumed_by_calling_again(tmp_path, capsys):
    task, workers = world()
    method = moiety.METHODS["fedavg"].make(task)
    folder = tmp_path / "run"
    moiety.train(method, workers, folder, moiety.TrainConfig(rounds=2), test={"seen": workers})
    assert main(["report", str(folder)]) == 0
    assert (folder / "report.html").exists()
    assert main(["resume", str(folder)]) == 1
    assert "was made by moiety.train(); call that again" in capsys.readouterr().err


def test_a_model_that_is_none_is_not_kept(tmp_path):
    """Every worker's step is sound, its loss too; what the server makes of them is not."""
    task, workers = world()

    def spoil(old, new, held, memory):
        return {name: tensor / 0 for name, tensor in new.items()}, memory

    method = replace(moiety.METHODS["fedavg"].make(task), server=spoil)
    with pytest.raises(RunError, match=r"round 1: .* numbers of .* are not finite; lower the"):
        moiety.train(method, workers, tmp_path / "run", moiety.TrainConfig(rounds=2))
    assert not (tmp_path / "run" / "final").exists()
    assert [path.name for path in (tmp_path / "run" / "checkpoints").iterdir()] == ["00000000"]
    end = read_ledger(tmp_path / "run" / "ledger.jsonl").end
    assert end is not None
    assert end.status == "failed"


def test_ddome_sees_its_rows_through_the_common_expert(tmp_path):
    task, workers = world()
    method = moiety.METHODS["ddome"].make(task, experts=3, k=2)
    how = moiety.TrainConfig(rounds=4, size=5)
    state = moiety.train(method, workers, tmp_path / "run", how, test={"unseen": workers})
    again = moiety.train(method, workers, tmp_path / "run", how, test={"unseen": workers})
    assert all(torch.equal(state.params[name], again.params[name]) for name in state.params)
    small = moiety.load_model(tmp_path / "run").personalize(
        workers[3].take(torch.arange(20))["x"], 2
    )
    assert len(small.note["experts"]) == 2


@pytest.mark.parametrize("schedule", ["constant", "cosine"])
def test_a_run_is_made_longer_to_the_bit_where_nothing_follows_from_its_rounds(tmp_path, schedule):
    task, workers = world()
    net, local = task.model, moiety.LocalTraining(lr=0.05, lr_schedule=schedule)

    def train(folder, rounds, **more):
        how = moiety.TrainConfig(rounds=rounds, local=local, **more)
        return moiety.train(net, workers, tmp_path / folder, how, test={"validation": workers})

    train("run", 2)
    with pytest.raises(RunError, match=r"rounds is 1, was 2\. .*another folder; a run is made lon"):
        train("run", 1)
    if schedule == "cosine":
        with pytest.raises(RunError, match=r"rounds is 3, was 2.*Begin it with all its rounds"):
            train("run", 3)
        return
    longer, whole = train("run", 4), train("whole", 4)
    assert all(torch.equal(longer.params[name], whole.params[name]) for name in whole.params)
    assert len(read_ledger(tmp_path / "run" / "ledger.jsonl").rounds) == longer.round == 4
    assert train("run", 4).round == 4
    with pytest.raises(RunError, match="rounds is 2, was 4"):
        train("run", 2)
    train("best", 1, keep=moiety.Keep("best"))
    with pytest.raises(RunError, match="that evaluations choose, a longer run is another one"):
        train("best", 2, keep=moiety.Keep("best"))


@pytest.mark.parametrize("engine", ["collective", "partitioned"])
def test_engines_of_several_processes_are_refused_with_a_remedy(engine, tmp_path):
    task, workers = world()
    how = moiety.TrainConfig(rounds=1, engine=engine)
    with pytest.raises(RunError, match=r"choose auto.*docs/cluster\.md"):
        moiety.train(moiety.METHODS["fedavg"].make(task), workers, tmp_path / "x", how)
    assert not (tmp_path / "x").exists()


def test_statistics_that_overflow_are_not_kept_either(tmp_path):
    """The parameters are finite, barely; what is computed from them for use is not."""
    task, workers = world()
    model = moiety.normed((8, 16, 6), moiety.stream(0, "net"))
    method = moiety.METHODS["ist"].make(moiety.Task(model, task.local, workers=len(workers)))

    def spoil(old, new, held, memory):
        return {name: tensor * 1e30 for name, tensor in new.items()}, memory

    spoilt = replace(method, server=spoil)
    with pytest.raises(RunError, match=r"round 1: .* numbers of norm.\.\w+ are not finite"):
        moiety.train(spoilt, workers, tmp_path / "run", moiety.TrainConfig(rounds=1))
    assert not (tmp_path / "run" / "final").exists()
