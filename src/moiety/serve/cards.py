"""Experts with owners: what an owner gives, and the card that says so.

Letters: D width of an embedding, E experts.
"""

from __future__ import annotations

import datetime
import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from moiety.core.axes import Axes, Part, take_piece
from moiety.core.errors import RunError
from moiety.core.files import (
    add_digest,
    digest_bytes,
    holds_anything,
    is_intact,
    json_to_bytes,
    read_json,
    read_plain_file,
    replace_folder,
)
from moiety.core.tensors import tensors_from_bytes, tensors_to_bytes
from moiety.core.types import Params
from moiety.models.gated import Common
from moiety.models.stacked import EXPERT, PREFIX

VERSION = 1
TENSORS, CARD = "expert.safetensors", "card.json"
CARDS = "cards"
"""Where the note of a model keeps the cards of its experts, in their order."""

PUBLIC = "public"
"""The owner of the expert that everyone has: the frozen model that gates read."""

SLOPE, CONSTANT, MEAN = "gate.slope", "gate.constant", "gate.mean"
ROW_OF_GATE = (SLOPE, CONSTANT, MEAN)

LONGEST_LINE = 200
"""The most characters that a line of a card may have."""


@dataclass(frozen=True)
class Card:
    """Who gave an expert, and of what it was made.

    Args:
        owner: a name; one of a mixture.
        rows: on which it was trained; 0 where nobody said.
        date: of the data, as the owner says it (``2026-11-30``); empty where nobody did.
        licence: under which the expert may be used, likewise.
        data: fingerprint of the rows.
        anchor: fingerprint of the frozen model beside which it was trained.
    """

    owner: str
    rows: int = 0
    date: str = ""
    licence: str = ""
    data: str = ""
    anchor: str = ""

    def __post_init__(self) -> None:
        for name, told in asdict(self).items():
            if type(told) is not (int if name == "rows" else str) or not str(told).isprintable():
                raise ValueError(f"{name}={told!r}; a card has a number of rows, and lines of text")
            if len(str(told)) > LONGEST_LINE:
                raise ValueError(
                    f"{name} has {len(str(told))} characters; say it in {LONGEST_LINE}"
                )
        if self.rows < 0:
            raise ValueError(f"rows={self.rows}; give at least 0")
        if not self.owner.strip():
            raise ValueError(f"owner={self.owner!r}; give a name")
        if self.date:
            try:
                datetime.date.fromisoformat(self.date)
            except ValueError:
                raise ValueError(f"date={self.date!r}; say it as 2026-11-30") from None


@dataclass(frozen=True)
class OwnedExpert:
    """An expert that was fitted alone, and its row of a gate.

    Args:
        card: who gave it.
        net: ``config()`` of its network.
        params: of it.
        slope: of its score in an embedding, [D].
        constant: of its score, [].
        mean: of its owner's embeddings, [D].
    """

    card: Card
    net: Mapping[str, Any]
    params: Params
    slope: Tensor
    constant: Tensor
    mean: Tensor


def write_owned_expert(expert: OwnedExpert, folder: Path) -> None:
    """Write an expert as ``expert.safetensors`` and ``card.json``, which has the digests of both.

    Raises:
        RunError: for a folder that holds something.
    """
    if holds_anything(folder):
        raise RunError(f"{folder} already holds something; choose another --out")
    own = {PREFIX + name: tensor for name, tensor in expert.params.items()}
    gate = {SLOPE: expert.slope, CONSTANT: expert.constant, MEAN: expert.mean}
    tensors = tensors_to_bytes({**own, **gate})
    about = {
        "version": VERSION,
        "card": asdict(expert.card),
        "net": dict(expert.net),
        "sha256": digest_bytes(tensors),
    }
    replace_folder(folder, {TENSORS: tensors, CARD: json_to_bytes(add_digest(about))})


def load_owned_expert(path: str | Path) -> OwnedExpert:
    """Load an expert.

    Raises:
        RunError: if there is none, or it is damaged or of another version.
    """
    folder = Path(path)
    if not (folder / CARD).is_file():
        raise RunError(
            f"{folder} holds no expert ({CARD} is missing); moiety expert train writes one"
        )
    about = read_json(folder / CARD)
    if not isinstance(about, dict) or about.get("version") != VERSION or not is_intact(about):
        raise RunError(f"{folder / CARD} was changed, or is of another version; copy it again")
    data = read_plain_file(folder / TENSORS, "copy it again from its owner")
    if digest_bytes(data) != about.get("sha256"):
        raise RunError(f"{folder / TENSORS} was changed; copy it again from its owner")
    tensors = tensors_from_bytes(data, folder / TENSORS)
    own = {n.removeprefix(PREFIX): t for n, t in tensors.items() if n.startswith(PREFIX)}
    more = sorted(n for n in tensors if not n.startswith(PREFIX) and n not in ROW_OF_GATE)
    if more:
        raise RunError(
            f"{folder / TENSORS} has tensors that are no expert's: {', '.join(more[:3])}; an "
            f"expert is {PREFIX}* and {', '.join(ROW_OF_GATE)}"
        )
    try:
        gate = [tensors[name] for name in ROW_OF_GATE]
        net = dict(about["net"])
        return OwnedExpert(Card(**about["card"]), net, own, *gate)
    except (KeyError, TypeError, ValueError) as error:
        raise RunError(f"{folder / CARD} describes no expert ({error!r}); copy it again") from error


def fingerprint_common(common: Common) -> str:
    """Tell a frozen model from others, by what a gate reads of it."""
    digest = hashlib.blake2b(digest_size=8)
    for name, tensor in sorted(common.constants().items()):
        digest.update(name.encode() + b"\0" + tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def list_cards(note: Mapping[str, Any], count: int) -> list[Card]:
    """List the cards of a model's experts; those of a joint training belong to its run.

    Args:
        note: of the model.
        count: of its experts.
    """
    if CARDS in note:
        return [Card(**raw) for raw in note[CARDS]]
    run = f"{note.get('method', 'a run')} of {note.get('recipe', 'a run')}"
    names = note.get("experts", range(count))
    return [Card(f"{run}, expert {name}") for name in names]


def note_cards(note: Mapping[str, Any], cards: list[Card]) -> dict[str, Any]:
    """Write cards into a note."""
    return {**note, CARDS: [asdict(card) for card in cards]}


def cut_experts(params: Params, axes: Axes, kept: Tensor) -> Params:
    """Keep some experts of a mixture, and what its gate says of them; all else as it is."""
    piece = dict(take_piece(params, axes, Part({EXPERT: kept})))
    for name in ("gate.layer2.w", "gate.layer2.b"):
        piece[name] = piece[name][kept]
    return piece


def cut_note(note: Mapping[str, Any], count: int, kept: Tensor) -> dict[str, Any]:
    """Leave in a note what it says of the experts that are kept.

    Args:
        note: of a model.
        count: of its experts before.
        kept: the places of those that stay, [E].
    """
    names = note.get("experts", range(count))  # a personal model may be cut once more
    told = {**note, "experts": [names[place] for place in kept.tolist()]}
    if CARDS in note:
        told[CARDS] = [note[CARDS][place] for place in kept.tolist()]
    return told
