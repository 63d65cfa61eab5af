"""Wrong usage is told in one sentence, with the value and the remedy, and ends with exit code 2."""

from dataclasses import dataclass, field
from pathlib import Path

import pytest

from moiety.core.errors import UsageError
from moiety.recipes import RECIPES
from moiety.recipes.options import get_options
from moiety.recipes.record import Federation, list_read
from moiety.run.commands.words import (
    BESIDE,
    POSITIONAL,
    fill_record,
    list_options,
    read_words,
)

RECIPE = RECIPES["yours"].record

WORDS = (
    (["nosuch"], "nosuch"),
    (["run", "nosuch"], "nosuch"),
    (["run", "yours", "--nosuch", "3"], "--nosuch"),
    (["run", "yours", "--nosuch=3"], "--nosuch"),
    (["run", "yours", "-r", "3"], "-r"),
    (["run", "yours", "--rounds", "x"], "'x'"),
    (["run", "yours", "--rounds=1.5"], "'1.5'"),
    (["run", "yours", "--rounds"], "--rounds"),
    (["run", "yours", "--rounds", "3", "4"], "'4'"),
    (["run", "yours", "--local.lr", "fast"], "'fast'"),
    (["run", "yours", "--local.betas", "0.9"], "--local.betas"),
    (["run", "yours", "--mlp.hidden", "3", "wide"], "'wide'"),
    (["run", "yours", "--json", "true"], "'true'"),
    (["run", "yours", "--json=true"], "--json=true"),
    (["run", "yours", "--methods"], "--methods"),
    (["run", "yours", "--methods", "nosuch"], "nosuch"),
    (["run", "yours", "--net", "nosuch"], "nosuch"),
    (["run", "yours", "--rounds", "0"], "rounds=0"),
    (["run", "yours", "loose"], "'loose'"),
    (["run", "yours", "--ddome.kk", "3"], "--ddome.kk"),
    (["plan", "yours", "--latency-ms", "long"], "'long'"),
    (["profile", "yours", "--count", "0"], "--count 0"),
    (["sweep", "yours", "--try"], "--try"),
    (["predict"], "RUN"),
    (["predict", "run", "--data"], "--data"),
    (["predict", "run", "other", "--data", "rows.csv"], "'other'"),
    (["personalize", "run", "--data", "x.npz"], "--out"),
    (["report"], "RUNS"),
    (["resume", "--at", "3"], "RUN"),
    (["resume", "run", "--at", "three"], "'three'"),
    (["list", "everything"], "'everything'"),
)


@pytest.mark.parametrize(("words", "value"), WORDS, ids=lambda one: " ".join(one))
def test_one_sentence_with_value_and_remedy(moiety, tmp_path, words, value):
    said = moiety(*words)
    assert said.code == 2
    assert said.out == ""
    [line] = said.err.splitlines()
    assert line.startswith("moiety: ")
    assert value in line
    assert ";" in line or "(" in line  # what to do stands behind what is wrong
    assert not list(tmp_path.iterdir())


def test_a_far_name_brings_the_nearest_and_not_all(moiety):
    said = moiety("run", "nosuch").err
    assert "nearest are" in said
    assert "moiety list shows all" in said
    assert sum(name in said for name in RECIPES) <= 3


def read_run(*words):
    """Read words as those behind ``moiety run yours``."""
    options = list(list_options(Federation, RECIPE, list_read(RECIPE)))
    return fill_record(Federation, RECIPE, read_words(options, words, "moiety run yours"))


def test_every_kind_of_value_is_read():
    made = read_run(
        "--rounds", "7", "--local.lr=1e-2", "--mlp.hidden", "3", "4", "--methods", "ddome",
        "--local.bfloat16", "--population.no-shared-test", "--participation.anchors", "-1",
        "--local.by_rows", "--local.betas", "0.5", ".25", "--local.drops", "--schedule.rate=+2",
        "--note", "a b", "--ddome.k", "1", "--seed", "1", "--seed", "2", "--target", "up", "down",
    )  # fmt: skip
    assert (made.rounds, made.local.lr, made.methods) == (7, 0.01, ("ddome",))
    assert get_options(made.options, "mlp") == {"hidden": (3, 4)}
    assert made.target == "up,down"
    assert get_options(made.options, "ddome")["k"] == 1
    assert (made.local.bfloat16, made.local.by_rows, made.population.shared_test) == (
        True, True, False,
    )  # fmt: skip
    assert (made.participation.anchors, made.local.betas) == (-1, (0.5, 0.25))
    assert (made.local.drops, made.schedule.rate, made.note) == ((), 2.0, "a b")
    assert made.seed == 2  # the last word counts
    assert made.population.workers == RECIPE.population.workers


def test_every_default_said_again_changes_nothing():
    """Of every option, so that none is read as another type than it has."""
    options = list(list_options(Federation, RECIPE, list_read(RECIPE)))
    for option in options:
        if option.hint is bool:
            words = [option.flag if option.value else option.off]
        else:
            values = option.value if isinstance(option.value, tuple) else [option.value]
            words = [option.flag, *map(str, values)]
        assert read_run(*words) == RECIPE, words


@dataclass(frozen=True)
class Inner:
    """A record within."""

    size: int = 3


@dataclass(frozen=True)
class Command:
    """A command with all kinds of fields."""

    place: Path = field(metadata=POSITIONAL)
    also: tuple[Path, ...] = field(default=(), metadata=POSITIONAL)
    out: Path | None = None
    tries: tuple[str, ...] = field(default=(), metadata={"name": "try", "append": True})


@dataclass(frozen=True)
class Around:
    """A record whose fields stand beside others."""

    inner: Inner = field(default_factory=Inner, metadata=BESIDE)
    loud: bool = True


def test_positions_repeats_and_what_may_be_left_out():
    options = list(list_options(Command, None, ()))
    said = read_words(options, ["--try", "a=1", "x", "--out", "o", "y", "z", "--try=b=2"], "p")
    made = fill_record(Command, None, said)
    assert made == Command(Path("x"), (Path("y"), Path("z")), Path("o"), ("a=1", "b=2"))
    assert fill_record(Command, None, read_words(options, ["x"], "p")) == Command(Path("x"))
    with pytest.raises(UsageError, match="p needs PLACE; p --help says more"):
        read_words(options, [], "p")


def test_fields_beside_others_are_said_without_a_name():
    options = list(list_options(Around, Around(), ()))
    made = fill_record(Around, Around(), read_words(options, ["--size", "4", "--no-loud"], "p"))
    assert made == Around(Inner(4), loud=False)
