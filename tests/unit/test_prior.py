"""Answers corrected for a worker's mix of classes, and losses adjusted by it; numbers by hand."""

from dataclasses import replace
from typing import Any

import pytest
import torch

from moiety.core.objective import Objective
from moiety.core.rows import TableRows, take_all_rows
from moiety.core.streams import stream
from moiety.data.label_shares import LEAST_SHARE, LabelShares
from moiety.methods.ddome import ddome
from moiety.methods.demo import make_two_class_workers
from moiety.methods.dmoe import dmoe
from moiety.methods.fedavg import fedavg
from moiety.methods.task import LocalTraining, Task
from moiety.models.mlp import linear
from moiety.rounds.synchronous import initialise_state
from moiety.serve.adapt import adapt_serve, appoint_judges
from moiety.serve.choose import Plain
from moiety.serve.prior import Corrected, EstimatedPrior, Serving, estimate_shares
from moiety.tasks.classes import Classes
from moiety.tasks.metrics import CALIBRATION_ERROR, choose_metrics
from moiety.tasks.numbers import Numbers
from moiety.tasks.objectives import LOG_SHARES, RowLosses


def log(*rows) -> torch.Tensor:
    return torch.tensor(rows).log()


def read_logits() -> Plain:
    """Serve a linear network that answers the row itself: logits are the inputs."""
    model = linear(3, 3, stream(0, "net"))
    names = list(model.params)
    return Plain(replace(model, params={names[0]: torch.eye(3), names[1]: torch.zeros(3)}))


def rows_of(logits: torch.Tensor) -> TableRows:
    return TableRows({"x": logits}, torch.arange(len(logits)))


def test_one_step_of_em_by_hand():
    """Rows held by classes 3/4 and 1/4, then by 1/2 each; a third row is spread as in training."""
    found = estimate_shares(log([0.75, 0.25]).double(), torch.tensor([0.5, 0.5]).double())
    share = found.tolist()
    held = 0.75 * share[0] / (0.75 * share[0] + 0.25 * share[1])
    assert share[0] == pytest.approx((held + 0.5) / 2, abs=1e-6)  # a fixed point
    assert sum(share) == pytest.approx(1)


def test_em_finds_the_shares_that_rows_were_drawn_with():
    rng = torch.Generator().manual_seed(0)
    true = torch.tensor([0.7, 0.3, 0.0])
    y = torch.multinomial(true, 1000, replacement=True, generator=rng)
    x = 1.5 * torch.eye(3)[y] + torch.randn(1000, 3, generator=rng)  # log p(x|y) = 1.5 x_y + c(x)
    source = torch.full((3,), 1 / 3, dtype=torch.float64)
    found = estimate_shares((1.5 * x).double().log_softmax(-1), source)
    torch.testing.assert_close(found.float(), true, atol=0.05, rtol=0)


@pytest.mark.parametrize(
    ("rows", "skewed", "least", "moves"),
    [(60, True, 20, True), (60, False, 20, False), (19, True, 20, False), (19, True, 5, True)],
)
def test_it_corrects_skewed_workers_of_enough_rows_alone(rows, skewed, least, moves):
    y = torch.zeros(rows, dtype=torch.long) if skewed else torch.arange(rows) % 3
    x, serve = 2.0 * torch.eye(3)[y], read_logits()
    adapted = EstimatedPrior(serve, least).adapt(serve.model.params, {}, rows_of(x))
    assert isinstance(adapted, Corrected)
    told = adapted.scores(serve.model.params, {"x": x}, {})
    assert (abs(told[0] - x[0].log_softmax(-1)).max() > 0.05) == moves
    assert torch.allclose(told.exp().sum(-1), torch.ones(rows))


def test_an_answer_is_weighed_by_ratio_and_temperature():
    """p = (1/2, 1/4, 1/4) at temperature 1/2 is (4, 1, 1)/6; ratios 1, 2, 3 make (4, 2, 3)/9."""
    ratio = tuple(torch.tensor([1.0, 2.0, 3.0]).log().tolist())
    serve = read_logits()
    x = log([0.5, 0.25, 0.25])
    told = Corrected(serve, 0.5, ratio).scores(serve.model.params, {"x": x}, {})
    torch.testing.assert_close(told.exp(), torch.tensor([[4 / 9, 2 / 9, 3 / 9]]))


@pytest.mark.parametrize(
    ("uniform", "source"), [(False, (3 / 6, 2 / 6, 1 / 6)), (True, (1 / 3,) * 3)]
)
def test_fit_reads_labels_of_validation_rows_and_leaves_out_those_without(uniform, source):
    answers = log([0.8, 0.1, 0.1], [0.8, 0.1, 0.1], [0.8, 0.1, 0.1], [0.1, 0.1, 0.8])
    y = torch.tensor([0, 0, 1, -1])
    found = EstimatedPrior(read_logits(), uniform=uniform).fit(
        [(answers[:2], y[:2]), (answers[2:], y[2:])]
    )
    assert found.source == pytest.approx(source)
    # Right twice in three, where 0.8 was said: 8^b : 2 = 2 : 1 gives b = log 4 / log 8.
    assert found.temperature == pytest.approx(3 / 2, rel=1e-6)


@pytest.mark.parametrize(("skewed", "spread"), [(True, 1.0), (False, 1e9)])
def test_shares_move_as_far_as_validation_workers_gain_by_it(skewed, spread):
    """Where each has all classes, what rows seem to say of shares is the model's own mistake."""
    rng = torch.Generator().manual_seed(0)
    answers = []
    for worker in range(6):
        y = torch.full((40,), worker % 3) if skewed else torch.arange(40) % 3
        lean = torch.zeros(3) if skewed else 3.0 * torch.eye(3)[worker % 3]  # inputs, not labels
        noise = torch.randn(40, 3, generator=rng)
        answers.append(((2 * torch.eye(3)[y] + noise + lean).log_softmax(-1), y))
    assert EstimatedPrior(read_logits()).fit(answers).spread == spread
    logs, labels = zip(*answers, strict=True)
    pooled = [(torch.cat(logs), torch.cat(labels))]  # nobody's: then those who train
    assert EstimatedPrior(read_logits()).fit(pooled, answers).spread == spread
    assert EstimatedPrior(read_logits()).fit(pooled).spread == 1.0
    few = EstimatedPrior(read_logits(), least_rows=100).fit(answers)  # of whom nobody can tell
    assert few.spread == 1.0


def test_workers_that_train_judge_where_validation_rows_are_nobodys():
    """At most about 500 rows of each, evenly; where validation workers can tell, nobody."""
    task, _ = make_two_class_workers(stream(0, "judges"))
    method = Serving("em").apply(fedavg(task), validation=True, uniform=False)
    rows = {w: TableRows({"x": torch.arange(n)}, torch.arange(n)) for w, n in ((0, 3), (1, 1200))}
    open_rows, nobody = rows.__getitem__, {-1: rows[0]}
    found: Any = appoint_judges(method, nobody, open_rows, [0, 1]).serve
    assert {w: one.size for w, one in found.judges.items()} == {0: 3, 1: 400}
    assert torch.equal(take_all_rows(found.judges[1])["x"], torch.arange(0, 1200, 3))
    told: Any = appoint_judges(method, rows, open_rows, [0, 1]).serve
    assert not told.judges


@pytest.mark.parametrize("objective", [Numbers(("y",))])
def test_tasks_without_classes_are_refused(objective: Objective):
    task = Task(linear(3, 1, stream(0, "net")), objective=objective)
    method = fedavg(task)
    assert Serving().apply(method, validation=False, uniform=False) is method
    with pytest.raises(ValueError, match=r"serve\.prior.*numbers"):
        Serving("em").apply(method, validation=True, uniform=False)
    with pytest.raises(ValueError, match=r"local\.prior.*numbers"):
        replace(task, local=LocalTraining(prior="adjust"))


@pytest.mark.parametrize(
    ("serving", "said"),
    [(Serving("EM"), "choose one of"), (Serving("em", 0), "at least 1"),
     (Serving("em"), "validation rows"), (Serving(least_rows=5), "with serve.prior=em alone")],
)  # fmt: skip
def test_choices_that_do_not_fit_are_refused(serving, said):
    method = fedavg(Task(linear(3, 2, stream(0, "net")), objective=Classes(("a", "b"))))
    with pytest.raises(ValueError, match=said):
        serving.apply(method, validation=False, uniform=False)


def test_shares_of_a_single_class_are_refused():
    method = fedavg(Task(linear(3, 1, stream(0, "net")), objective=Classes(("a",))))
    with pytest.raises(ValueError, match=r"serve\.prior='em'.*the only one is 'a'"):
        Serving("em").apply(method, validation=True, uniform=False)


def test_what_does_not_read_the_local_prior_refuses_it():
    with pytest.raises(ValueError, match=r"local\.prior='x'"):
        LocalTraining(prior="x").check()
    task = Task(
        linear(3, 2, stream(0, "net")), LocalTraining(prior="adjust"), shape=(3,), classes=2
    )
    with pytest.raises(ValueError, match="dmoe"):
        dmoe(task)


def test_an_adjusted_loss_is_that_of_outputs_with_log_shares():
    """Of -log softmax(x + log share) at the label; a class the worker lacks is as good as out."""
    y = torch.tensor([0, 0, 0, 1])
    open_rows = LabelShares(
        {7: TableRows({"x": torch.zeros(4, 3), "y": y}, torch.arange(4))}.__getitem__, 3
    )
    batch = take_all_rows(open_rows(7))
    torch.testing.assert_close(batch[LOG_SHARES].exp()[2], torch.tensor([0.75, 0.25, LEAST_SHARE]))
    model = read_logits().model
    losses, _ = RowLosses(Classes(), model.forward)(model.params, batch, {})
    torch.testing.assert_close(losses, -log(0.75, 0.75, 0.75, 0.25), atol=1e-5, rtol=0)


@pytest.mark.parametrize("make", [fedavg, lambda task: ddome(task, experts=3)])
def test_the_local_prior_is_a_word_of_every_loss(make):
    """With equal shares it changes no gradient; without the column it says what to do."""
    task, data = make_two_class_workers(stream(3, "demo"))
    method = make(replace(task, local=replace(task.local, prior="adjust")))
    plain = make(task)
    batch = dict(take_all_rows(data[3]), weight=torch.full((data[3].size,), 1 / data[3].size))
    batch = batch if method.transform is None else method.transform(batch)
    params = initialise_state(method).params
    kept = {"expert": torch.arange(3)} if method.gated else {}
    with pytest.raises(ValueError, match="LabelShares"):
        method.solve.losses[""](params, batch, kept)
    equal = {**batch, LOG_SHARES: torch.full((data[3].size, 6), -1.7918)}
    found, _ = method.solve.losses[""](params, equal, kept)
    wanted, _ = plain.solve.losses[""](params, batch, kept)
    torch.testing.assert_close(found, wanted)


def test_whoever_adapts_to_nobody_is_as_it_was():
    serve = read_logits()
    assert adapt_serve(serve, serve.model.params, {}, rows_of(torch.zeros(2, 3))) is serve


def test_the_calibration_error_of_a_few_rows_by_hand():
    """0.9 said twice and right once, 0.6 said once and right: (2 |0.5 - 0.9| + |1 - 0.6|) / 3."""
    log_NC, y_N = log([0.9, 0.1], [0.9, 0.1], [0.4, 0.6]), torch.tensor([0, 1, 1])
    totals = [CALIBRATION_ERROR.sums(log_NC[k : k + 1], y_N[k : k + 1]) for k in range(3)]
    assert CALIBRATION_ERROR.value(torch.stack(totals).sum(0)) == pytest.approx(1.2 / 3, abs=1e-6)
    assert choose_metrics("classes", ["calibration_error"]) == (CALIBRATION_ERROR,)
