"""Runs in which experts open while they go on: stops are invisible, and early ends are served."""

import pytest
import torch

import moiety as library
from moiety.core.errors import RunError
from moiety.core.ledger import read_ledger
from moiety.run.loop import LEDGER
from moiety.serve.trade import find_cards


def test_experts_open_in_their_round_and_a_stop_is_invisible(lab, tiny, final, lines):
    """The third of three experts opens after three rounds of six; everyone would hold all."""
    choices, kept = {"opens": [3], "k": 3}, {"every": 1, "last": 9}
    run = lab.play(tiny(ddome=choices, evaluate_every=1, checkpoint=kept), "ddome")
    ledger = read_ledger(run / LEDGER)
    assert [entry.gate_load[2] > 0 for entry in ledger.rounds] == 3 * [False] + 3 * [True]
    assert all(sum(e.routes[2]) == 0 for e in ledger.evaluations if e.round <= 3)
    wanted, told = final(run), lines(run)
    for at in (4, 3, 2):
        lab.resume(run, at)
        assert (final(run), lines(run)) == (wanted, told)


def test_a_run_that_ends_before_an_opening_is_served_by_those_that_are_open(lab, tiny):
    """Nobody gets better by a whole point of a share, so that it ends at the second evaluation."""
    keep = {"patience": 1, "improvement": 1.0}
    choices = {"opens": [5], "serve_k": 3}
    run = lab.play(tiny(ddome=choices, evaluate_every=1, keep=keep), "ddome")
    served = library.load_model(run)
    assert served.note["round"] < 5
    assert served.model.closed == (2,)
    x = torch.randn(30, 6, generator=torch.Generator().manual_seed(0))
    assert served.serve.choose(served.params, served.open(x)).axes["expert"].tolist() == [0, 1]
    own = served.personalize(x)
    assert own.note["experts"] == [0, 1]
    torch.testing.assert_close(own.predict_log_proba(x), served.predict_log_proba(x))
    with pytest.raises(RunError, match="--experts 3, but the model has 2"):
        served.personalize(x, experts=3)
    with pytest.raises(RunError, match="ended before 1 of its experts opened"):
        find_cards(served)
