"""Private runs: what they write, where they stop, and what goes on after a stop."""

import json
import math
import re
import stat
from typing import Any

import pytest
import torch
from torch import nn

from moiety.core.errors import RunError
from moiety.core.keys import KEY_FILE
from moiety.core.ledger import read_ledger
from moiety.privacy.accountant import Accountant, spend_gaussian
from moiety.privacy.config import PrivacyConfig
from moiety.recipes.build import build_run
from moiety.run.loop import LEDGER
from moiety.run.own_run import TrainConfig
from moiety.run.spec import resolve_run
from moiety.run.train import prepare_run
from moiety.serve.prior import EstimatedPrior, Serving
from tests.run.conftest import NAMES
from tests.run.conftest import draw as draw_classes

CHOICE = {"clip": 0.5, "noise": 1.5, "delta": 1e-3}
ROWS = {"row_clip": 1.0, "row_noise": 2.0}


def read_spent(folder) -> list[float]:
    return [float(entry.epsilon or 0) for entry in read_ledger(folder / LEDGER).rounds]


@pytest.mark.parametrize("cohort", ["known", "secret"])
def test_a_private_run_goes_on_to_the_bit_and_its_key_stays_where_it_is(
    cohort, lab, tiny, final, lines
):
    free = {"anchors": -1} if cohort == "secret" else {}
    record = tiny(
        privacy={**CHOICE, "cohort": cohort},
        participation=free,
        checkpoint={"every": 1, "last": 9},
    )
    folder = lab.play(record)
    before, told = final(folder), lines(folder)
    path = folder / KEY_FILE
    key = path.read_bytes()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    for other in (other for other in folder.rglob("*") if other.is_file() and other != path):
        raw = other.read_bytes()
        assert key not in raw
        assert key.hex().encode() not in raw
    lab.resume(folder, at=2)
    assert final(folder) == before
    assert lines(folder) == told
    spent = read_spent(folder)
    if cohort == "secret":
        account = Accountant(1e-3, chance=4 / 6)
        assert spent == [account.spend(1.5, done) for done in range(1, 7)]
    else:
        most = [max(c) for c in count_asked(folder)]
        assert spent == [Accountant(1e-3, tuple(most)).spend(1.5, done) for done in range(1, 7)]
    assert spent == sorted(spent)
    path.unlink()
    with pytest.raises(RunError, match=r"noise\.key is missing"):
        lab.resume(folder, at=2)


@pytest.mark.parametrize("private", [{}, CHOICE, ROWS])
def test_rows_that_train_judge_nothing_that_is_given_away(private, tiny):
    """How far answers are corrected is part of the final model, and has no noise."""
    how: Any = {
        "privacy": private, "serve": {"prior": "em"}, "participation": {"anchors": -1},
        "population": {"scheme": "dirichlet", "anchors": 0},
    }  # fmt: skip
    recipe = build_run(tiny(**how), "fedavg", 0).method.serve
    x, y = (torch.as_tensor(one) for one in draw_classes(60))
    workers = {w: (x[w::2], y[w::2]) for w in range(2)}
    chosen = TrainConfig(rounds=1, privacy=PrivacyConfig(**private), serve=Serving("em"))
    test = {"validation": {0: (x, y)}}
    own = prepare_run(nn.Linear(6, 5), workers, chosen, test, NAMES).method.serve
    for serve in (recipe, own):
        assert isinstance(serve, EstimatedPrior)
        assert bool(serve.judges) == (not private)


def count_asked(folder) -> list[list[int]]:
    """Count, after each round, in how many each worker took part."""
    found = [0] * 6
    after = []
    for entry in read_ledger(folder / LEDGER).rounds:
        for work in entry.workers:
            found[work.worker] += 1
        after.append(list(found))
    return after


def test_rows_are_guarded_at_workers_and_their_losses_stay_there(lab, tiny, final, lines):
    """Epsilon is of the rounds in which a worker was asked; a run goes on to the bit."""
    guard = {"row_clip": 1.0, "row_noise": 2.0, "delta": 1e-3}
    record = tiny(privacy=guard, rounds=3, local={"epochs": 2}, checkpoint={"every": 1, "last": 9})
    folder = lab.play(record)
    before, told = final(folder), lines(folder)
    asked = [0] * 6
    for entry in read_ledger(folder / LEDGER).rounds:
        for work in entry.workers:
            asked[work.worker] += 1
            spent = (entry.row_epsilon or {})[str(work.worker)]
            assert spent == spend_gaussian(2.0, 2 * asked[work.worker], 1e-3)
            assert math.isnan(work.loss_mean)
        assert entry.epsilon is None
    lab.resume(folder, at=1)
    assert final(folder) == before
    assert lines(folder) == told


@pytest.mark.parametrize("method", ["fjord", "heterofl", "ist", "fedper", "diloco"])
def test_parts_and_servers_of_all_kinds_are_played(method, lab, tiny, tensors):
    """With both promises at once; nothing but the noise moves what a great noise hides."""
    guard = {"clip": 0.5, "noise": 50.0, "delta": 1e-3, "row_clip": 1.0, "row_noise": 1.0}
    people = {"size": 3, "anchors": -1}
    own = {"mlp": {"hidden": (6,)}}
    loud = lab.play(tiny(privacy=guard, rounds=2, participation=people, **own), method)
    assert all(one > 0 for one in read_spent(loud))
    weight = tensors(loud)["layer1.w"].double()
    # Between noise on a mean of all, once or twice, and that of one holder.
    assert 0.2 * 50 * 0.5 / 3 < float(weight.std()) < 3 * 50 * 0.5


def test_two_runs_of_one_recipe_have_other_noise(lab, tiny, final):
    record = tiny(privacy=CHOICE, rounds=1)
    assert final(lab.play(record, name="one")) != final(lab.play(record, name="other"))


def test_a_budget_ends_a_run_with_the_last_round_that_keeps_it(lab, tiny):
    whole = read_spent(lab.play(tiny(privacy=CHOICE), name="whole"))
    budget = (whole[3] + whole[4]) / 2 if whole[3] < whole[4] else whole[4]
    folder = lab.play(tiny(privacy={**CHOICE, "epsilon": budget}), name="bounded")
    kept = [one for one in whole if one <= budget]
    ledger = read_ledger(folder / LEDGER)
    assert read_spent(folder) == kept
    assert ledger.end is not None
    assert ledger.end.status == "finished"
    assert f"privacy.epsilon={budget:g}" in ledger.end.reason
    lab.resume(folder)
    assert read_spent(folder) == kept


def test_the_noise_for_a_budget_is_written_down(tiny):
    record = tiny(privacy={"clip": 0.5, "delta": 1e-3, "epsilon": 3.0})
    spec, _ = resolve_run("yours", record, "fedavg", 0)
    found = spec.record.privacy.noise
    assert re.search(rf"--privacy.noise {found}", spec.command)
    again, _ = resolve_run("yours", spec.record, "fedavg", 0)
    assert json.dumps(again.to_json()) == json.dumps(spec.to_json())


REFUSED = [
    ({"privacy": {"row_clip": 1.0}}, "fedavg", "--privacy.row-noise"),
    ({"privacy": ROWS, "local": {"prior": "adjust"}}, "fedavg", "local.prior"),
    ({"privacy": ROWS, "local": {"epochs": 0, "steps": 3}}, "fedavg", "local.epochs"),
    ({"privacy": ROWS, "net": "normed"}, "fedavg", "norms are over the rows"),
    ({"privacy": {**ROWS, "epsilon": 1.0}}, "fedavg", "privacy.clip=0.0"),
    ({"privacy": {"noise": 1.0}}, "fedavg", "privacy.clip=0.0"),
    ({"privacy": {**CHOICE, "noise": 1e300}}, "fedavg", "privacy.noise=1e\\+300"),
    ({"privacy": {"clip": 1.0}}, "fedavg", "without noise"),
    ({"privacy": {**CHOICE, "delta": 0.2}}, "fedavg", "6 workers"),
    ({"privacy": {**CHOICE, "noise": 0.1, "epsilon": 1.0}}, "fedavg", "one round costs"),
    ({"privacy": {**CHOICE, "cohort": "hidden"}}, "fedavg", "known"),
    ({"privacy": {**CHOICE, "cohort": "secret"}}, "fedavg", "anchors -1"),
    ({"schedule": {"kind": "buffered", "size": 2}}, "fedavg", "schedule.kind='buffered'"),
    ({"balance": True}, "fedavg", "balance"),
    ({"secure": {"threshold": 2}}, "fedavg", "cannot clip it"),
    ({"merge": {"kind": "median"}}, "fedavg", "the merge is Robust"),
    ({"local": {"by_rows": True}}, "fedavg", "by_rows"),
    ({"local": {"optimizer_state": "send", "momentum": 0.9}}, "fedavg", "memory"),
    ({"engine": "collective"}, "fedavg", "--engine serial"),
    ({"net": "normed"}, "fedavg", "norms are over the rows"),
    ({}, "scaffold", "memory"),
    ({}, "ddome", "answer a question"),
    ({}, "fisher", "sums over their rows"),
]


@pytest.mark.parametrize(("changes", "method", "words"), REFUSED)
def test_what_would_tell_more_is_refused(changes, method, words, tiny):
    with pytest.raises(ValueError, match=words):
        resolve_run("yours", tiny(**{"privacy": CHOICE, **changes}), method, 0)
