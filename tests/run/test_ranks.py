"""Runs under torchrun: a rank that dies, and going on with other numbers of ranks."""

import json
import os
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
import torch

from benchmarks.faults_parts.ranks import (
    RankProcess,
    describe_rank,
    find_free_port,
    start_rank,
)
from moiety.core.keep import find_final_evaluation
from moiety.core.ledger import read_ledger
from moiety.recipes.build import build_run
from moiety.run.cli import main
from moiety.run.errors import explain_failure
from moiety.run.group import read_spec
from moiety.run.loop import LEDGER
from moiety.serve.predictor import load_model
from tests.waiting import LAST_S, wait_until

WORDS = [
    *("run", "ist-digits", "--methods", "diloco", "--seeds", "1", "--rounds", "40"),
    *("--evaluate-every", "20", "--normed.hidden", "32", "32", "--checkpoint.every", "4"),
    *("--keep.final", "best", "--population.validation", "0.1"),
    *("--engine", "collective", "--out"),
]


def torchrun(count, *words):
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", str(count)]
    port = ["--rdzv-backend", "c10d", "--rdzv-endpoint", "localhost:0"]
    return subprocess.Popen(
        [*command, *port, "-m", "moiety", *map(str, words)],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip


def play_ranks(count: int, folder: Path, *words) -> list[RankProcess]:
    """Fork ranks that run a command, so that libraries are imported once."""
    port = find_free_port()
    return [
        start_rank(partial(act_as_rank, words), describe_rank(rank, count, port), folder)
        for rank in range(count)
    ]


def act_as_rank(words) -> int:
    """Answer to Ctrl-C as a process of its own does."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    return main([str(word) for word in words])


def end_well(ranks: list[RankProcess]) -> None:
    """Wait for ranks, all of which must end with 0."""
    ends = [one.finish() for one in ranks]
    assert [code for code, _ in ends] == [0] * len(ranks), ends


def ranks_of(process) -> list[int]:
    """Find the processes that a torchrun started."""
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    return [
        int(pid)
        for pid in children
        if b"moiety" in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    ]


def wait_for_round(out: Path, number: int) -> None:
    ledger = out / "ledger.jsonl"

    def there() -> bool:
        # A life that finds no checkpoint takes the ledger away: it may go between two looks.
        try:
            return f'"round": {number}' in ledger.read_text()
        except FileNotFoundError:
            return False

    wait_until(there, f"round {number}")


def final(out: Path) -> bytes:
    return (out / "final" / "model.safetensors").read_bytes()


def text_of(ledger: Path) -> list:
    """What a ledger says: clocks, ends and what passed between so many ranks apart."""

    def plain(value: dict) -> dict:
        apart = ("seconds", "check", "sent_bytes")
        return {k: v for k, v in value.items() if k not in apart and not k.endswith("_s")}

    lines = [json.loads(line) for line in ledger.read_text().splitlines()]
    return [
        plain(line) | {"workers": [plain(work) for work in line.get("workers", ())]}
        for line in lines
        if line["kind"] in ("round", "evaluation")
    ]


@pytest.fixture(scope="module")
def straight(tmp_path_factory) -> Path:
    """Play DiLoCo, whose workers keep memory, with one rank."""
    folder = tmp_path_factory.mktemp("straight")
    end_well(play_ranks(1, folder, *WORDS, "out"))
    return folder / "out"


def check_same_run(out: Path, straight: Path) -> None:
    assert final(out) == final(straight)
    assert text_of(out / "ledger.jsonl") == text_of(straight / "ledger.jsonl")


@pytest.mark.skipif(sys.platform != "linux", reason="looks for processes in /proc")
def test_a_dead_rank_ends_torchrun_and_three_go_on(tmp_path, straight):
    out = tmp_path / "killed"
    run = torchrun(2, *WORDS, out)
    wait_for_round(out, 9)
    os.kill(max(ranks_of(run)), signal.SIGKILL)
    said = run.communicate(timeout=LAST_S)[0]
    assert run.returncode != 0
    assert "Signal 9" in said or "SIGKILL" in said
    assert not (out / "final").exists()
    again = torchrun(3, "resume", out)
    said = again.communicate(timeout=LAST_S)[0]
    assert again.returncode == 0, said
    check_same_run(out, straight)


def test_a_dead_rank_ends_the_run_and_one_goes_on(tmp_path, straight):
    out = tmp_path / "killed"
    stays, goes = play_ranks(2, tmp_path, *WORDS, out)
    wait_for_round(out, 9)
    goes.process.kill()
    assert stays.finish()[0] == 1
    assert not (out / "final").exists()
    end_well(play_ranks(1, tmp_path, "resume", out))
    check_same_run(out, straight)


@pytest.mark.parametrize("engine", ["collective", "partitioned"])
def test_who_is_left_says_that_a_rank_was_lost_and_how_to_go_on(engine, tmp_path):
    """Ranks started by hand: torchrun would stop the other before it can say anything."""
    out = tmp_path / "left"
    words = [*BLOCKS, engine, "--rounds", "2000", "--evaluate-every", "1000", "--out", out]
    stays, goes = play_ranks(2, tmp_path, *words)
    wait_for_round(out, 9)
    goes.process.kill()
    code, said = stays.finish()
    assert code == 1
    assert "moiety: another rank was lost, or does not answer" in said
    assert f"The last checkpoint is kept in {out}" in said
    assert f"torchrun --nproc-per-node 2 -m moiety resume {out} (cause: " in said
    assert "gloo" in said
    assert "Traceback" not in said
    assert (out / "checkpoints" / "00000008").is_dir()


class DistError(RuntimeError):
    """As torch.distributed names its own."""


class DistBackendError(DistError):
    """Of nccl."""


@pytest.mark.parametrize(("error", "ranks", "told"), [
    (DistBackendError("NCCL error"), 2, True),
    (RuntimeError("[x/gloo/transport/tcp/pair.cc:553] Connection closed by peer"), 2, True),
    (RuntimeError("[x/gloo/transport/tcp/pair.cc:553] Connection closed by peer"), 1, False),
    (RuntimeError("worker 3, round 1, step 2: the loss is nan"), 2, False),
    (ValueError("gloomy"), 2, False),
])  # fmt: skip
def test_only_an_error_of_the_link_is_a_lost_rank(error, ranks, told, tmp_path):
    said = str(explain_failure(error, tmp_path, ranks))
    assert ("another rank was lost" in said) == told
    assert str(error) in said
    assert "No checkpoint was written yet" in said
    (tmp_path / "checkpoints" / "00000004").mkdir(parents=True)
    assert f"The last checkpoint is kept in {tmp_path}" in str(
        explain_failure(error, tmp_path, ranks)
    )


@pytest.mark.parametrize("engine", ["collective", "partitioned"])
def test_ctrl_c_stops_all_ranks_with_a_checkpoint(engine, tmp_path, check_seconds):
    out = tmp_path / "stopped"
    words = [*BLOCKS, engine, "--rounds", "2000", "--evaluate-every", "1000", "--out", out]
    ranks = play_ranks(2, tmp_path, *words)
    wait_for_round(out, 9)
    for one in ranks:
        os.kill(one.process.pid, signal.SIGINT)
    codes, said = zip(*(one.finish() for one in ranks), strict=True)
    assert codes == (130, 130), said
    assert "terminate called" not in "".join(said)
    assert f"moiety resume {out}" in said[0]
    end = json.loads((out / "ledger.jsonl").read_text().splitlines()[-1])
    assert (end["kind"], end["status"]) == ("end", "interrupted")
    assert int(max((out / "checkpoints").iterdir()).name) == end["round"]
    assert all(entry.sent_bytes > 0 for entry in check_seconds(out))


def test_several_processes_need_the_collective_engine(tmp_path):
    words = [word if word != "collective" else "serial" for word in WORDS]
    run = torchrun(2, *words, tmp_path / "x")
    assert "say --engine collective" in run.communicate(timeout=LAST_S)[0]
    assert run.returncode != 0


BLOCKS = [
    *("run", "ist-digits", "--methods", "ist", "--seeds", "1", "--rounds", "12"),
    *("--evaluate-every", "6", "--normed.hidden", "32", "32", "--checkpoint.every", "4"),
    *("--engine",),
]


def scores(lines: list) -> list[float]:
    """Accuracy and loss of the evaluations, in order."""
    groups = [line["groups"]["test"] for line in lines if line["kind"] == "evaluation"]
    return [
        value
        for group in groups
        for value in (*group["metrics"]["accuracy"], *group["metrics"]["loss"])
    ]


def rounds(lines: list) -> list:
    return [line for line in lines if line["kind"] == "round"]


def test_a_run_in_blocks_goes_on_with_another_number_of_ranks(tmp_path):
    """Rounds to the bit; scores up to the order in which ranks add up the outputs."""
    straight, out = tmp_path / "straight", tmp_path / "killed"
    assert main([*BLOCKS, "partitioned", "--out", str(straight)]) == 0
    stays, goes = play_ranks(2, tmp_path, *BLOCKS, "partitioned", "--out", out)
    wait_for_round(out, 6)
    goes.process.kill()
    assert stays.finish()[0] == 1
    assert not (out / "final").exists()
    end_well(play_ranks(3, tmp_path, "resume", out))
    told, wanted = text_of(out / "ledger.jsonl"), text_of(straight / "ledger.jsonl")
    assert rounds(told) == rounds(wanted)
    assert len(rounds(told)) == 12
    assert scores(told) == pytest.approx(scores(wanted), rel=1e-5)
    assert main(["resume", str(out), "--at", "7"]) == 1
    before = final(out)
    assert main(["resume", str(out), "--at", "8"]) == 0
    assert rounds(text_of(out / "ledger.jsonl")) == rounds(wanted)
    assert len(final(out)) == len(before)


def test_blocks_are_used_as_merged_where_nothing_is_calibrated(tmp_path):
    """And as many checkpoints are kept as were asked for."""
    told = []
    for words in ([], ["--ist.no-calibrate"]):
        out = tmp_path / f"run{len(words)}"
        kept = ["--checkpoint.every", "2", "--checkpoint.last", "3", "--out", str(out)]
        assert main([*BLOCKS, "partitioned", *words, *kept]) == 0
        told.append(scores(text_of(out / "ledger.jsonl")))
        assert sorted(path.name for path in (out / "checkpoints").iterdir()) == [
            "00000008",
            "00000010",
            "00000012",
        ]
    assert told[0] != told[1]
    names = load_model(tmp_path / "run1").params
    assert not any(name.endswith(".mean") for name in names)


@pytest.mark.parametrize("engine", ["partitioned", "peers"])
def test_the_final_model_of_blocks_is_a_model_like_any(engine, tmp_path):
    """Written by two ranks, loaded by one process: it answers as its evaluation says."""
    out = tmp_path / engine
    best = ["--keep.final", "best", "--population.validation", "0.1", "--evaluate-every", "1"]
    words = [*BLOCKS, engine, *best, "--local.lr", "1", "--local.optimizer-state", "send"]
    end_well(play_ranks(2, tmp_path, *words, "--out", out))
    served = load_model(out)
    data = build_run(read_spec(out).record, "ist", 0)
    (rows,) = data.groups["test"].values()
    batch = rows.take(torch.arange(rows.size))
    guess = served.model.logits(served.params, batch, {}).argmax(1)
    found = float((guess == batch["y"]).float().mean())
    ledger = read_ledger(out / LEDGER)
    (told,) = find_final_evaluation(ledger).groups["test"].metrics["accuracy"]
    assert found == pytest.approx(told, abs=1e-6)
    assert ledger.end is not None
    chosen = [entry.groups["validation"].metrics["accuracy"][0] for entry in ledger.evaluations]
    assert served.note["round"] == ledger.end.final == chosen.index(max(chosen))
    assert sorted(path.name for path in (out / "final").iterdir()) == [
        "config.json",
        "model.safetensors",
    ]
    assert not list(out.glob("**/*.metadata"))  # a pickle


def test_peers_and_owners_play_the_same_rounds(tmp_path, check_seconds):
    told = []
    for engine in ("partitioned", "peers"):
        out = tmp_path / engine
        end_well(
            play_ranks(2, tmp_path, *BLOCKS, engine, "--participation.size", "2", "--out", out)
        )
        told.append((text_of(out / "ledger.jsonl"), final(out)))
        assert all(entry.sent_bytes > 0 for entry in check_seconds(out))
    assert told[0] == told[1]


def test_blocks_cost_and_hold_what_the_whole_in_one_place_does(tmp_path):
    """The same parts and bytes as ``serial``, other first values; and it learns as well."""
    told = {}
    for engine in ("partitioned", "serial"):
        assert main([*BLOCKS, engine, "--out", str(tmp_path / engine)]) == 0
        told[engine] = text_of(tmp_path / engine / "ledger.jsonl")
    for one, other in zip(rounds(told["partitioned"]), rounds(told["serial"]), strict=True):
        for name in ("round", "down_bytes", "up_bytes"):
            assert one[name] == other[name]
        for mine, theirs in zip(one["workers"], other["workers"], strict=True):
            for name in ("worker", "part", "held", "down_bytes", "up_bytes", "steps", "rows"):
                assert mine[name] == theirs[name]
    assert scores(told["partitioned"])[2] == pytest.approx(scores(told["serial"])[2], abs=0.05)
    assert scores(told["partitioned"])[2] > 0.8


@pytest.mark.parametrize(
    ("words", "remedy"),
    [
        (["--methods", "local_sgd"], "say --methods ist"),
        (["--net", "mlp", "--mlp.hidden", "32"], "--net normed"),
        (["--local.by-rows"], "local.by_rows=True"),
        (["--schedule.speeds.values", "1", "5"], "has no clock"),
        (["--local.optimizer-state", "keep"], "local.optimizer_state='reset' or 'send'"),
    ],
)
def test_what_cannot_be_played_in_blocks_is_told_the_remedy(words, remedy, tmp_path, capsys):
    base = [word for word in BLOCKS if word not in ("--normed.hidden", "32")]
    assert main([*base, "partitioned", *words, "--out", str(tmp_path / "x")]) == 1
    assert remedy in capsys.readouterr().err
    assert not (tmp_path / "x").exists()
