"""``moiety expert``: experts as goods, fitted alone by their owners, added, dropped, replaced."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from moiety.core.errors import RunError, UsageError
from moiety.core.files import holds_anything
from moiety.data.dataset import Dataset
from moiety.data.roles import Columns
from moiety.ops.text import align_columns
from moiety.recipes.fields import suggest_names
from moiety.recipes.source import fingerprint_data
from moiety.run.commands.arguments import parse_words
from moiety.run.commands.expert_arguments import (
    AddArguments,
    CardArguments,
    DropArguments,
    OpenArguments,
    ReplaceArguments,
    TrainArguments,
    TuneArguments,
)
from moiety.run.commands.predict import open_model
from moiety.run.echo import echo, echo_json
from moiety.run.owner import AloneTraining, train_owned_expert, tune_gate
from moiety.serve import cards, trade
from moiety.serve.predictor import MODEL, Predictor, write_model

ABOUT = """Trade experts. An owner fits one alone, beside a public model that is frozen; a mixture
takes experts in, and lets them go again, without training. moiety predict and moiety personalize
take the mixture.

commands:
  open     make a mixture of one expert, the public model itself
  train    fit an expert on the rows of one owner, and its row of the gate
  add      put experts into a mixture, or into a finished run of ddome
  drop     take experts out; every other tensor stays as it is, bit for bit
  replace  put an expert in the place of another
  tune     train the gate a little on public rows with labels
  list     show the cards of experts: who gave them, and of what they were made

examples:
  moiety expert open runs/mine --public public.csv --out mixture
  moiety expert train mixture --data mine.csv --public public.csv --owner Ann --out ann
  moiety expert add mixture --experts ann bob --out both
  moiety expert drop both --owners Bob --out mixture-of-ann
  moiety expert list both
"""


def read_file_for(served: Predictor, path: Path, target: str, *, labels: bool = True) -> Dataset:
    """Read a file as the model takes it."""
    columns = Columns(
        target or None,
        labels=labels,
        usual_target=served.note.get("target"),
        usual_group=served.note.get("group"),
        task=served.objective.name,
    )
    return served.input_spec.read(path, columns)


def open_public(words: Sequence[str]) -> int:
    """Open a mixture."""
    said = parse_words(OpenArguments, words, prog="expert open", about=ABOUT)
    require_empty_folder(said.out)
    served = open_model(said.run)
    data = read_file_for(served, said.public, said.target, labels=False)
    return write_mixture(trade.open_mixture(served, data.x, fingerprint_data(data)), said.out)


def train_owner(words: Sequence[str]) -> int:
    """Fit an expert."""
    said = parse_words(TrainArguments, words, prog="expert train", about=ABOUT)
    card = cards.Card(said.owner, date=said.date, licence=said.licence)
    require_empty_folder(said.out)
    if said.public is None and said.ridge != AloneTraining.ridge:
        raise UsageError(f"--ridge {said.ridge} is read with --public alone; leave it out")
    how = AloneTraining(said.local, said.seed, said.ridge, said.fresh, said.width)
    how.check()
    served = open_model(said.model)
    trade.take_mixture(served)
    data = read_file_for(served, said.data, said.target)
    public = (
        None
        if said.public is None
        else read_file_for(served, said.public, said.target, labels=False).x
    )
    expert = train_owned_expert(served, data, card, how, public)
    cards.write_owned_expert(expert, said.out)
    echo(write_cards([expert.card]))
    echo(f"\n{(said.out / cards.TENSORS).stat().st_size} bytes in {said.out}")
    return 0


def add_experts(words: Sequence[str]) -> int:
    """Add experts."""
    said = parse_words(AddArguments, words, prog="expert add", about=ABOUT)
    served = open_model(said.model)
    for folder in said.experts:
        served = trade.insert_expert(served, cards.load_owned_expert(folder))
    return write_mixture(served, said.out)


def drop_experts(words: Sequence[str]) -> int:
    """Drop experts."""
    said = parse_words(DropArguments, words, prog="expert drop", about=ABOUT)
    served = open_model(said.model)
    for owner in said.owners:
        served = trade.remove_expert(served, owner)
    return write_mixture(served, said.out)


def replace_expert(words: Sequence[str]) -> int:
    """Replace an expert."""
    said = parse_words(ReplaceArguments, words, prog="expert replace", about=ABOUT)
    expert = cards.load_owned_expert(said.expert)
    served = trade.exchange_expert(open_model(said.model), said.owner, expert)
    return write_mixture(served, said.out)


def tune_mixture(words: Sequence[str]) -> int:
    """Train the gate."""
    said = parse_words(TuneArguments, words, prog="expert tune", about=ABOUT)
    require_empty_folder(said.out)
    served = open_model(said.model)
    data = read_file_for(served, said.public, said.target)
    return write_mixture(tune_gate(served, data, AloneTraining(said.local, said.seed)), said.out)


def show_cards(words: Sequence[str]) -> int:
    """Show cards."""
    said = parse_words(CardArguments, words, prog="expert list", about=ABOUT)
    if (said.model / cards.CARD).is_file():
        found = [cards.load_owned_expert(said.model).card]
    else:
        found = trade.find_cards(open_model(said.model))
    if said.json:
        echo_json([asdict(card) for card in found])
    else:
        echo(write_cards(found))
    return 0


def write_cards(found: Sequence[cards.Card]) -> str:
    """Write cards, a line each."""
    head = ["owner", "rows", "date", "licence", "data", "trained beside"]
    lines = [
        [one.owner, str(one.rows or "-"), *(x or "-" for x in list(asdict(one).values())[2:])]
        for one in found
    ]
    return align_columns([head, *lines])


def require_empty_folder(out: Path) -> None:
    """Refuse a folder that holds something."""
    if holds_anything(out):
        raise RunError(f"{out} already holds something; choose another --out")


def write_mixture(served: Predictor, out: Path) -> int:
    """Write a mixture, and say what is in it."""
    require_empty_folder(out)
    write_model(served, out)
    echo(write_cards(trade.find_cards(served)))
    echo(f"\n{(out / MODEL).stat().st_size} bytes in {out}")
    return 0


VERBS: Mapping[str, Callable[[Sequence[str]], int]] = {
    "open": open_public,
    "train": train_owner,
    "add": add_experts,
    "drop": drop_experts,
    "replace": replace_expert,
    "tune": tune_mixture,
    "list": show_cards,
}


def do_expert(words: Sequence[str]) -> int:
    """Trade experts."""
    if not words or words[0] in ("-h", "--help"):
        echo(
            f"usage: moiety expert COMMAND ...\n\n{ABOUT}\nmoiety expert COMMAND --help says more."
        )
        return 0 if words else 2
    if words[0] not in VERBS:
        raise UsageError(f"unknown command 'expert {words[0]}'{suggest_names(words[0], VERBS)}")
    return VERBS[words[0]](words[1:])
