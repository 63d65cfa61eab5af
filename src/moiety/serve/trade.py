"""Experts as goods: a mixture is opened from a frozen model; experts come, go and change places.

Every edit gives a new model; what it does not name stays as it is, bit for bit. Letters: B rows, D
width of an embedding, H hidden units of a gate, E experts.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from moiety.core.errors import RunError
from moiety.core.streams import stream
from moiety.core.types import Params
from moiety.models.gate_input import ROWS
from moiety.models.gated import GatedExperts, common_expert, rate_experts
from moiety.models.stacked import PREFIX, stack_models
from moiety.serve.cards import (
    PUBLIC,
    Card,
    OwnedExpert,
    cut_experts,
    fingerprint_common,
    list_cards,
    note_cards,
)
from moiety.serve.choose import Plain, Routed
from moiety.serve.narrow import widen_expert
from moiety.serve.predictor import Predictor

TRIED = 4
"""Rows on which a narrower expert is tried."""

LAYER1_W, LAYER1_B = "gate.layer1.w", "gate.layer1.b"
LAYER2_W, LAYER2_B = "gate.layer2.w", "gate.layer2.b"


def open_mixture(anchor: Predictor, x: Tensor, data: str = "") -> Predictor:
    """Make a mixture of one expert, the model itself, beside which others are trained.

    Args:
        anchor: a finished model that is used as it is: FedAvg's, or the common expert.
        x: public rows, [N, ...], as the model takes them; they scale what gates read.
        data: fingerprint of these rows.

    Raises:
        RunError: for a model that has experts already, or is used in another way.
    """
    model: Any = anchor.model
    if isinstance(model, GatedExperts):
        raise RunError("this model has experts already; add to it, or open a model without")
    if not isinstance(anchor.serve, Plain) or anchor.input_spec.adapter.config()["kind"] != "table":
        raise RunError(
            f"a mixture is opened from a model of rows that is used as it is, but this one is "
            f"{type(anchor.serve).__name__} of {anchor.note.get('method', 'a run')}; take a run "
            "of fedavg or common, without serve.prior"
        )
    rows = anchor.open(x)
    common = common_expert(model, anchor.params, rows.take(torch.arange(rows.size))["x"])
    params, axes = stack_models(model, [anchor.params])
    mean = common.mean
    gate = {
        LAYER1_W: mean.new_zeros((0, len(mean))),
        LAYER1_B: mean.new_zeros(0),
        LAYER2_W: mean.new_zeros((1, 0)),
        LAYER2_B: mean.new_zeros(1),
    }
    params = read_embedding({**params, **gate})
    buffers = {PREFIX + name: rule for name, rule in model.buffers.items()}
    flags = model.draws_noise, model.uses_batch_statistics
    mixed = GatedExperts(params, axes, model, common, buffers, *flags)
    card = Card(PUBLIC, rows.size, data=data, anchor=fingerprint_common(common))
    note = note_cards({**anchor.note, "method": "experts"}, [card])
    serve = Routed(mixed, None, "soft", anchor.objective)
    return Predictor(params, mixed, serve, anchor.input_spec, note)


def read_embedding(params: Params) -> Params:
    """Let a gate's hidden layer pass the embedding on, if it does not: relu(x) and relu(-x).

    Experts that are there do not read the new units; then a score may be any line in x.
    """
    width = params[LAYER1_W].shape[1]
    both = torch.cat([torch.eye(width), -torch.eye(width)]).to(params[LAYER1_W])
    held, bias = params[LAYER1_W][-2 * width :], params[LAYER1_B][-2 * width :]
    if held.shape == both.shape and torch.equal(held, both) and not bias.any():
        return params
    second = params[LAYER2_W]
    return {
        **params,
        LAYER1_W: torch.cat([params[LAYER1_W], both]),
        LAYER1_B: torch.cat([params[LAYER1_B], bias.new_zeros(2 * width)]),
        LAYER2_W: torch.cat([second, second.new_zeros((len(second), 2 * width))], 1),
    }


def take_mixture(served: Predictor) -> GatedExperts:
    """Take the mixture of a model.

    Raises:
        RunError: for a model without one, or whose answers are corrected by a temperature that
            was fitted to the experts that it has.
    """
    if not isinstance(served.model, GatedExperts):
        method = served.note.get("method", "a run")
        raise RunError(
            f"a model of {method} has no experts; moiety expert open makes a mixture of it, or "
            "take a run of ddome"
        )
    if not isinstance(served.serve, Routed):
        raise RunError(
            "answers of this model are corrected by what was fitted to its experts "
            "(serve.prior=em); play the run with serve.prior none to edit its experts"
        )
    if served.serve.shared:
        raise RunError(
            "an expert of this model is everyone's (ddome.shared), and the others learned what it "
            "does not know; play the run without it to edit its experts"
        )
    if served.model.common.reads == ROWS:
        raise RunError(
            "the gate of this model reads rows (ddome.gate_input='rows'), so that it has no frozen "
            "model beside which experts are trained; play the run with 'hidden' or 'answers'"
        )
    if served.model.closed:
        raise RunError(
            f"the run of this model ended before {len(served.model.closed)} of its experts opened "
            "(ddome.opens); play it to the end to edit its experts"
        )
    return served.model


def find_cards(served: Predictor) -> list[Card]:
    """Find the cards of a model's experts, in their order."""
    return list_cards(served.note, take_mixture(served).held(served.params))


def find_owner(served: Predictor, owner: str) -> int:
    """Find the place of an owner's expert.

    Raises:
        RunError: if there is none.
    """
    owners = [card.owner for card in find_cards(served)]
    if owner not in owners:
        raise RunError(f"no expert of {owner!r}; there are those of {', '.join(owners)}")
    return owners.index(owner)


def fit_in(served: Predictor, expert: OwnedExpert) -> OwnedExpert:
    """Give an expert as it fits into a mixture: a narrower one is put between zeros.

    Raises:
        RunError: for one that was trained beside another model, or is of another shape.
    """
    model, who = take_mixture(served), expert.card.owner
    here = fingerprint_common(model.common)
    if expert.card.anchor != here:
        raise RunError(
            f"the expert of {who!r} was trained beside the frozen model {expert.card.anchor}, but "
            f"this mixture's is {here}; train it beside this one"
        )
    if dict(expert.net) != dict(model.expert.config()):
        x = served.input_spec.adapter.draw(TRIED, served.input_spec.shape, stream(0, "narrow"))
        rows = served.open(x)
        expert = widen_expert(model.expert, expert, rows.take(torch.arange(rows.size)))
    width = len(model.common.mean)
    found = {name: tuple(tensor.shape) for name, tensor in expert.params.items()}
    wanted = {name: tuple(tensor.shape) for name, tensor in model.expert.params.items()}
    rows = [tuple(one.shape) for one in (expert.slope, expert.mean, expert.constant)]
    if found != wanted or rows != [(width,), (width,), ()]:
        raise RunError(f"the tensors of the expert of {who!r} are not those that its card names")
    for tensor in (*expert.params.values(), expert.slope, expert.mean, expert.constant):
        held = tensor.to(model.common.mean) if tensor.is_floating_point() else None
        if held is None or not bool(held.isfinite().all()):
            raise RunError(f"the expert of {who!r} has numbers that are not finite, or are none; "
                           "one would spoil every answer of the mixture")  # fmt: skip
    return expert


def insert_expert(served: Predictor, expert: OwnedExpert) -> Predictor:
    """Put an expert behind those that are there; they keep their parameters and scores.

    Raises:
        RunError: if the owner is there already, or the expert does not fit.
    """
    expert = fit_in(served, expert)
    cards = find_cards(served)
    if expert.card.owner in [card.owner for card in cards]:
        raise RunError(f"{expert.card.owner!r} has an expert here; replace it, or drop it first")
    params = append_expert(read_embedding(served.params), rate_row(served, expert), expert)
    return edit_mixture(served, params, [*cards, expert.card])


def remove_expert(served: Predictor, owner: str) -> Predictor:
    """Take an owner's expert out, and its row of the gate.

    Raises:
        RunError: if there is none, or no other.
    """
    place, cards = find_owner(served, owner), find_cards(served)
    if len(cards) == 1:
        raise RunError(f"the expert of {owner!r} is the only one; a mixture needs one")
    kept = torch.tensor([one for one in range(len(cards)) if one != place])
    params = cut_experts(served.params, take_mixture(served).axes, kept)
    return edit_mixture(served, params, [cards[one] for one in kept.tolist()])


def exchange_expert(served: Predictor, owner: str, expert: OwnedExpert) -> Predictor:
    """Put an expert in the place of an owner's.

    Raises:
        RunError: if there is none, if the new owner has another place here, or if the expert does
            not fit.
    """
    expert = fit_in(served, expert)
    place, cards = find_owner(served, owner), find_cards(served)
    if any(card.owner == expert.card.owner for i, card in enumerate(cards) if i != place):
        raise RunError(f"{expert.card.owner!r} has another expert here; drop that one first")
    grown = append_expert(read_embedding(served.params), rate_row(served, expert), expert)
    order = list(range(len(cards)))
    order[place] = len(cards)
    params = cut_experts(grown, take_mixture(served).axes, torch.tensor(order))
    cards[place] = expert.card
    return edit_mixture(served, params, cards)


def edit_mixture(served: Predictor, params: Params, cards: list[Card]) -> Predictor:
    """Give a model with other experts; it is used as before, by as many experts a worker."""
    serve: Any = served.serve
    model = replace(take_mixture(served), params=params)
    rest: Mapping[str, Any] = {n: told for n, told in served.note.items() if n != "experts"}
    fewer = serve.k is not None and serve.k > len(cards)
    k = len(cards) if fewer else serve.k
    return Predictor(
        params,
        model,
        replace(serve, model=model, k=k),
        served.input_spec,
        note_cards(rest, cards),
    )


def rate_row(served: Predictor, expert: OwnedExpert) -> tuple[Tensor, Tensor]:
    """Give an expert's row of a mixture's gate: slope over hidden units, [H], and constant, [].

    The owner's score is the log of how much likelier an embedding is its own than public; it is
    added to what the gate says, at the owner's mean, of the public expert, or of all in one.
    """
    params = served.params
    rated_E = rate_experts(params, expert.mean[None].to(params[LAYER1_W]))[0]
    owners = [card.owner for card in find_cards(served)]
    public = rated_E[owners.index(PUBLIC)] if PUBLIC in owners else rated_E.logsumexp(0)
    width = len(expert.slope)
    before = len(read_embedding(params)[LAYER1_W]) - 2 * width
    slope_D = expert.slope.to(rated_E)
    row_H = torch.cat([rated_E.new_zeros(before), slope_D, -slope_D])
    return row_H, expert.constant.to(rated_E) + public


def append_expert(
    params: Params, row: tuple[Tensor, Tensor], expert: OwnedExpert
) -> dict[str, Tensor]:
    """Stack an expert, and its row of the gate, behind those that are there."""
    more = {PREFIX + name: tensor for name, tensor in expert.params.items()}
    more |= {LAYER2_W: row[0], LAYER2_B: row[1]}
    return {
        name: torch.cat([held, more[name][None].to(held)]) if name in more else held
        for name, held in params.items()
    }
