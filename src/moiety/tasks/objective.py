"""Objectives by their kind: built again from what a finished model says of itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from moiety.core.errors import UnknownNameError
from moiety.core.objective import Objective
from moiety.tasks.answers import Answers
from moiety.tasks.classes import Classes
from moiety.tasks.labels import Labels
from moiety.tasks.metrics import choose_metrics, list_metric_names
from moiety.tasks.numbers import Numbers
from moiety.tasks.own import answer_alone
from moiety.tasks.tokens import Tokens

OBJECTIVES: Mapping[str, Callable[..., Objective]] = {
    "classes": Classes,
    "numbers": Numbers,
    "labels": Labels,
    "tokens": Tokens,
    "answers": Answers,
    "own": answer_alone,
}
"""Kind -> what builds it, from the rest of its ``to_json()`` with lists as tuples."""


def rebuild_objective(raw: Mapping[str, Any]) -> Objective:
    """Build what ``to_json()`` says; metrics of one's own are code, and are left out.

    Raises:
        UnknownNameError: for a kind that this version does not know.

    >>> rebuild_objective({"kind": "classes", "names": ["no", "yes"]}).outputs
    2
    """
    kind = str(raw.get("kind"))
    if kind not in OBJECTIVES:
        raise UnknownNameError(f"objective {kind!r}; this version knows {tuple(OBJECTIVES)}")
    rest = {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in raw.items()
        if name != "kind"
    }
    if "metrics" in rest:
        known = [name for name in rest["metrics"] if name in list_metric_names(kind)]
        del rest["metrics"]
        rest |= {"metrics": choose_metrics(kind, known)} if known else {}
    return OBJECTIVES[kind](**rest)
