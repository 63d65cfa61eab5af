"""The gates of DDOME on figures made by hand, and the simulation's parts; no timings."""

import json
import shlex
from dataclasses import replace

import pytest
import torch

from benchmarks import theorem
from benchmarks.ddome import (
    above,
    below,
    bytes_gate,
    exact_bytes,
    health_gates,
    main,
    quickstart_gate,
    rising,
)
from benchmarks.ddome_page import atlas, cell, draw, fill, margins, tables
from benchmarks.ddome_trials import ALL, GATED, QUICKSTART, SHOWN, final, on_map, score
from benchmarks.gates import Book, Gate
from benchmarks.trial import Trial, owners, played
from moiety.core.streams import stream
from moiety.methods import METHODS
from moiety.recipes.options import REFERENCE
from moiety.run.commands.recipe import parse_recipe
from moiety.run.commands.run import RunArguments

SMALL = {
    "rounds": 2,
    "evaluate_every": 2,
    "population": {"workers": 8, "unseen": 2, "rows": 20},
    "participation": {"size": 4, "anchors": 2},
    "common": {"epochs": 1},
}


def made(accuracy, gate=None, traffic=()):
    return {
        "unseen": {"0": 0.0, "200": accuracy, "250": accuracy, "300": accuracy},
        "seen": {"300": accuracy},
        "worst": accuracy,
        "seconds": 1.0,
        "gate": gate,
        "traffic": list(traffic),
    }


def book_of(**accuracies):
    figures = {
        f"{name.replace('_', ' ')}, seed {seed}": made(value)
        for name, values in accuracies.items()
        for seed, value in enumerate(values)
    }
    return Book(figures=figures)


@pytest.mark.parametrize(("high", "good"), [(48.0, True), (47.9, False)])
def test_a_margin_is_that_of_the_means(high, good):
    gate = above("over", 8, [high, 50.0], [40.0, 42.0])
    assert gate.ok is good


def test_a_margin_may_have_a_ceiling():
    assert below("over", 2, [52.0, 50.0], [49.0, 49.0]).ok
    assert not below("over", 2, [52.0, 51.0], [49.0, 49.0]).ok


def test_rising_is_strict():
    assert rising("k", [[1.0, 3.0], [2.5, 2.5], [3.0, 3.0]]).ok
    assert not rising("k", [[1.0], [1.0], [2.0]]).ok
    assert not rising("k", [[1.0], [3.0], [2.0]]).ok


def test_bytes_follow_the_formula():
    """By hand: 5 + 5 gates of 3,604 bytes, 5 + 2 * 5 experts of 5,000; up, 10 indices of 4."""
    assert exact_bytes(5, 5, 2) == (36_040 + 75_000, 36_040 + 75_000 + 40)
    assert exact_bytes(2, 0, 3) == (17_208, 17_208)


def test_a_byte_too_many_is_seen():
    right = {"traffic": [[5, 5, 111_040, 111_080]]}
    wrong = {"traffic": [[5, 5, 111_040, 111_080], [5, 5, 111_040, 111_081]]}
    assert bytes_gate([(2, right)]).ok
    assert not bytes_gate([(2, right), (2, wrong)]).ok
    assert not bytes_gate([(3, right)]).ok


def test_gate_health_looks_at_the_worst_seed_and_the_mean_block():
    good = [made(1.0, {"share": [0.05, 0.95], "block": block}) for block in (0.4, 0.6)]
    bare = [made(1.0, {"share": [0.0, 1.0], "block": 0.2})]
    assert [gate.ok for gate in health_gates(good, bare)] == [True, True, True, None]
    starved = [*good, made(1.0, {"share": [0.04, 0.96], "block": 0.1})]
    told = [made(1.0, {"share": [0.5, 0.5], "block": 0.31})]
    assert [gate.ok for gate in health_gates(starved, told)] == [False, False, False, None]


@pytest.mark.parametrize(
    ("best", "good"), [([80.0, 82.0, 84.0], True), ([72.0, 76.0, 71.0], False)]
)
def test_the_quickstart_is_held_against_its_best_rival_and_the_larger_spread(best, good):
    book = book_of(
        quickstart_ddome=best,
        quickstart_fedavg=[70.0, 72.0, 74.0],
        quickstart_fedprox=[69.0, 70.0, 71.0],
        quickstart_common=[10.0, 50.0, 90.0],
    )
    assert quickstart_gate(book).ok is good


def test_a_score_is_the_mean_of_late_rounds_else_the_last():
    assert score({"unseen": {"150": 9.0, "200": 1.0, "250": 2.0, "300": 6.0}}) == 3.0
    assert score({"unseen": {"20": 1.0, "200": 2.0}}) == 2.0
    assert final({"unseen": {"200": 1.0, "300": 6.0}}) == 6.0


def test_every_trial_is_a_recipe_that_exists():
    for name, trial in ALL.items():
        assert trial.record.seeds == len(trial.seeds), name
        assert trial.method in (*METHODS, REFERENCE)
    assert Trial("", "ddome", changes={"ddome": {"teach": False}}).command == (
        "moiety run ddome-modes --methods ddome --ddome.no-teach"
    )
    assert ALL[on_map(16, 4, "fedavg")].command == (
        "moiety run quickstart --methods fedavg --population.classes 4 --mlp.hidden 16"
    )


@pytest.mark.parametrize("name", [*GATED, *QUICKSTART, *SHOWN, "map 2 4 ddome"])
def test_the_command_of_a_trial_gives_its_record(name):
    trial = ALL[name]
    words = shlex.split(trial.command)
    assert words[:3] == ["moiety", "run", trial.recipe]
    name, said = parse_recipe(words[2:], "run", "", RunArguments)
    assert name == trial.recipe
    assert said.record == replace(trial.record, methods=(trial.method,))


def test_the_map_holds_the_quickstart():
    assert on_map(3, 2, "ddome") == "quickstart ddome"
    assert ALL["quickstart ddome"].record.options.mlp.hidden == (3,)
    assert ALL["quickstart ddome"].record.population.classes == 2


def test_the_map_marks_what_is_beyond_the_spread():
    assert cell([5.0, 6.0, 7.0]) == "**+6.0 ± 1.0**"
    assert cell([-5.0, 6.0, -1.0]) == "+0.0 ± 5.6"
    assert cell([]) == "not run"


def test_pages_are_filled_from_figures(tmp_path):
    values = {f"map {w} 2 {m}": [v, v + 1, v + 2] for w, v in ((2, 60.0), (64, 20.0))
              for m in ("ddome",)}  # fmt: skip
    values |= {f"map {w} 2 fedavg": [50.0, 50.0, 50.0] for w in (2, 64)}
    book = book_of(**values)
    assert margins(book, 2, 2) == [10.0, 11.0, 12.0]
    assert "| 2 | **+11.0 ± 1.0** | 61.0 ± 1.0 | 50.0 ± 0.0 | not run |" in atlas(book)
    written = tables(book, [Gate("a", "b", "c", ok=True)])
    assert "| a | b | c | yes |" in written["gates"]
    assert written["modes"].count("not run") == 4 * (len(written["modes"].splitlines()) - 2)
    text = fill("x\n<!-- gates -->\n<!-- end gates -->\ny\n", written)
    assert text.startswith("x\n<!-- gates -->\n| gate |")
    assert text.endswith("\n<!-- end gates -->\ny\n")
    assert fill(text, written) == text
    with pytest.raises(ValueError, match="end gates"):
        fill("<!-- gates -->\nlost\n", written)
    pytest.importorskip("matplotlib")
    draw(book, tmp_path / "map.svg")
    assert "</svg>" in (tmp_path / "map.svg").read_text()


def test_a_trial_is_played_as_a_run_and_its_bytes_are_exact():
    trial = Trial("small", "ddome", changes=SMALL, seeds=(0,))
    found = played(trial, 0)
    json.dumps(found)
    assert list(found["unseen"]) == ["0", "2"]
    assert bytes_gate([(2, found)]).ok
    assert found["traffic"][0][:2] == [2, 2]
    assert sum(found["gate"]["share"]) == pytest.approx(1)
    assert 0 <= found["gate"]["block"] <= 1
    assert found == {**played(trial, 0), "seconds": found["seconds"]}


def test_blocks_without_anchors_are_those_that_anchors_would_have():
    trial = Trial("small", "ddome", changes=SMALL, seeds=(0,))
    bare = Trial("bare", "ddome", changes={**SMALL, "population": {**SMALL["population"],
                                                                    "anchors": 0}})  # fmt: skip
    owner_C = owners(trial.record, 0)
    assert owner_C.bincount().tolist() == [2] * 5
    assert torch.equal(owners(bare.record, 0), owner_C)


def test_orthonormal_rows():
    rows = theorem.orthonormal(3, 7, stream(0, "rows"))
    assert torch.allclose(rows @ rows.T, torch.eye(3), atol=1e-6)


def test_the_truth_leaves_no_loss_and_zero_leaves_all():
    truth = theorem.truth_of(8, 2, 0)
    assert theorem.left(truth.v, truth.w, truth, 0) == 0
    assert theorem.left(truth.v, 0 * truth.w, truth, 0) == pytest.approx(1)


def test_experts_under_the_true_router_are_true():
    truth = theorem.truth_of(8, 2, 0)
    assert torch.allclose(theorem.experts_of(truth.v, truth, 0), truth.w, atol=1e-4)


def test_losses_of_a_router_by_hand():
    share, error = torch.tensor([[0.25, 0.75]]), torch.tensor([[2.0, -2.0]])
    assert theorem.of_answers(share, error).tolist() == [4.0]
    assert theorem.of_mixture(share, error).tolist() == [1.0]


def test_fitting_apart_leaves_the_experts_alone(monkeypatch):
    monkeypatch.setattr(theorem, "STEPS", 3)
    truth, router = theorem.truth_of(8, 2, 0), theorem.first_router(8, 2, 0)
    before, experts = router.clone(), truth.w.clone()
    theorem.descend(router, experts, truth, 0, joint=False)
    assert torch.equal(experts, truth.w)
    assert not torch.equal(router, before)
    theorem.descend(router, experts, truth, 0, joint=True)
    assert not torch.equal(experts, truth.w)


def test_quick_says_what_it_leaves_out(monkeypatch, capsys):
    made_quick = {**made(60.0), "traffic": [[5, 5, 111_040, 111_080]]}
    figures = {"quick": made_quick, "theorem, quick, apart": [0.6], "theorem, quick, joint": [0.1],
               "theorem, quick, distance": [0.7]}  # fmt: skip
    monkeypatch.setattr(Book, "open", staticmethod(lambda path, *, closed: Book(figures=figures)))
    assert main(["--quick", "--check"]) == 0
    told = capsys.readouterr().out
    assert told.count("not run") == 3
    figures["theorem, quick, joint"] = [0.2]
    assert main(["--quick", "--check"]) == 1


def test_a_full_run_reads_every_trial(monkeypatch, capsys):
    health = {"share": [0.2] * 5, "block": 0.6}
    bytes_of = {"k1": 1, "ddome": 2, "k3": 3}
    figures = {}
    for name, trial in ALL.items():
        down, up = exact_bytes(5, 5, bytes_of.get(name, 2))
        for seed in trial.seeds:
            figures[f"{name}, seed {seed}"] = made(50.0 + seed, health, [[5, 5, down, up]])
    for part in ("apart", "joint", "mixed", "distance"):
        figures[f"theorem, {part}"] = [0.1] * 3
    monkeypatch.setattr(Book, "open", staticmethod(lambda path, *, closed: Book(figures=figures)))
    assert main(["--check"]) == 1
    told = capsys.readouterr().out
    assert all(trial.name in told for trial in {**GATED, **QUICKSTART}.values())
