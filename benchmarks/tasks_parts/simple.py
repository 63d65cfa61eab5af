"""Yardsticks without a network: linear models and boosted trees of scikit-learn, counts of tokens.

Letters: B rows, C classes, T positions, V tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from moiety.core.extras import import_extra

EXTRA = "the benchmark's plain models"

Rows = Mapping[str, Tensor]

Answer = Callable[[Tensor], Tensor]
"""Inputs -> answers, as an objective gives them."""


def fit_linear_numbers(rows: Rows) -> Answer:
    """Fit a ridge regression."""
    ridge = import_extra("sklearn.linear_model", EXTRA).Ridge(1.0)
    ridge.fit(rows["x"].numpy(), rows["y"].numpy())
    return lambda x: torch.tensor(ridge.predict(x.numpy())).float().reshape(len(x), -1)


def fit_boosted_numbers(rows: Rows) -> Answer:
    """Fit boosted trees, as scikit-learn sets them."""
    trees = import_extra("sklearn.ensemble", EXTRA).HistGradientBoostingRegressor(random_state=0)
    trees.fit(rows["x"].numpy(), rows["y"][:, 0].numpy())
    return lambda x: torch.tensor(trees.predict(x.numpy())).float()[:, None]


def fit_linear_classes(rows: Rows, classes: int) -> Answer:
    """Fit a logistic regression; a class without a row gets no probability to speak of."""
    logistic = import_extra("sklearn.linear_model", EXTRA).LogisticRegression(max_iter=200)
    logistic.fit(rows["x"].flatten(1).numpy(), rows["y"].numpy())

    def answer(x: Tensor) -> Tensor:
        log_BC = torch.full((len(x), classes), -30.0)
        found = torch.tensor(logistic.predict_log_proba(x.flatten(1).numpy())).float()
        log_BC[:, torch.tensor(logistic.classes_)] = found
        return log_BC

    return answer


def fit_linear_labels(rows: Rows) -> Answer:
    """Fit a logistic regression for each label."""
    linear = import_extra("sklearn.linear_model", EXTRA)
    models = [
        linear.LogisticRegression(max_iter=200).fit(rows["x"].numpy(), column.numpy())
        for column in rows["y"].T
    ]

    def answer(x: Tensor) -> Tensor:
        found = [torch.tensor(m.predict_log_proba(x.numpy())[:, 1]).float() for m in models]
        return torch.stack(found, -1)

    return answer


def fit_following(rows: Rows, tokens: int) -> Answer:
    """Count what follows each token and each pair, and mix the three by counts (Witten, Bell)."""
    x, y = rows["x"], rows["y"]
    single = torch.zeros(tokens, tokens).index_put_((x, y), torch.ones(()), accumulate=True)
    pair_ids = x[:, :-1] * tokens + x[:, 1:]
    pairs = torch.zeros(tokens**2, tokens).index_put_(
        (pair_ids, y[:, 1:]), torch.ones(()), accumulate=True
    )
    level_V = (single.sum(0) + 1) / (single.sum() + tokens)
    level_1 = blend(single, level_V.expand(tokens, -1))
    level_2 = blend(pairs, level_1.repeat(tokens, 1))

    def answer(x: Tensor) -> Tensor:
        p = level_1[x]
        p[:, 1:] = level_2[x[:, :-1] * tokens + x[:, 1:]]
        return p.log()

    return answer


def blend(count: Tensor, below: Tensor) -> Tensor:
    """Blend counts with a coarser guess, which weighs as much as there are kinds seen."""
    kinds = (count > 0).sum(-1, keepdim=True).clamp_min(1)
    return (count + kinds * below) / (count.sum(-1, keepdim=True) + kinds)
