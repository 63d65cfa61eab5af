"""The frozen set of options: a change of the command line shows here and in the change log."""

import inspect
import json
import re
from dataclasses import fields, is_dataclass, replace
from pathlib import Path

import pytest

from moiety.methods import METHODS
from moiety.models.networks import NETWORKS
from moiety.recipes import RECIPES
from moiety.recipes.fields import override_fields
from moiety.recipes.options import RECORDS
from moiety.recipes.record import Federation
from moiety.recipes.renamed import RENAMED
from moiety.rounds.schedule import SCHEDULE_KINDS, STALENESS, Schedule
from moiety.run.commands.arguments import read_argument_help
from moiety.run.commands.recipe import drop_unread, nest_value

FROZEN = Path(__file__).with_name("options.txt")
COMMANDS = (
    "run yours",
    "sweep yours",
    "plan yours",
    "resume",
    "list",
    "report",
    "predict",
    "personalize",
)


def options(text: str) -> set[str]:
    """Find the options that a help text offers at the head of its entries."""
    heads = re.findall(r"^\W*((?:-h, )?--[a-z][a-z0-9.-]*(?:, --[a-z0-9.-]+)*)", text, re.M)
    return {name for head in heads for name in re.findall(r"--[a-z][a-z0-9.-]*", head)}


def is_of_a_method(name: str) -> bool:
    """Say whether an option is a keyword argument of a method, which is where it is declared."""
    return name.removeprefix("--").partition(".")[0] in METHODS


@pytest.mark.parametrize("command", COMMANDS)
def test_the_options_of_a_command(moiety, command):
    """To change them on purpose, change options.txt: a line ``COMMAND: option option ...``.

    Only fields written by hand are frozen: a method's options are its signature, and no file
    besides its own has to change with them.
    """
    every = "--help-all" if " " in command else "--help"
    frozen = dict(line.split(": ", 1) for line in FROZEN.read_text().splitlines())
    found = options(moiety(*command.split(), every).out) - {"--help"}
    assert any(map(is_of_a_method, found)) == command.endswith(" yours")
    assert {name for name in found if not is_of_a_method(name)} == set(frozen[command].split())


def test_nothing_else_is_frozen():
    names = [line.split(": ", 1)[0] for line in FROZEN.read_text().splitlines()]
    assert names == list(COMMANDS)


@pytest.mark.parametrize("recipe", RECIPES)
def test_help_offers_what_the_run_reads_and_no_more(moiety, recipe):
    record = RECIPES[recipe].record
    found = options(moiety("run", recipe, "--help").out)
    groups = {name[2:].partition(".")[0] for name in found if "." in name}
    wanted = {name for name in (*record.methods, record.net) if name in RECORDS}
    assert {name for name in RECORDS if name.replace("_", "-") in groups} == wanted


def list_without_help(kind, value, where="") -> list[str]:
    """List the fields of a record, and of records in it, of which no documentation tells."""
    told, lacking = read_argument_help(kind), []
    for item in fields(kind):
        inner = getattr(value, item.name)
        if is_dataclass(inner):
            lacking += list_without_help(type(inner), inner, f"{where}{item.name}.")
        elif not told.get(item.name):
            lacking.append(where + item.name)
    return lacking


def test_every_option_has_its_help():
    assert list_without_help(Federation, Federation()) == []


def test_names_of_methods_and_networks_are_apart():
    """They stand beside each other in a record, and beside its fields."""
    names = [*METHODS, *NETWORKS, *(item.name for item in fields(Federation))]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("words", [
    ["--cnn.channels", "3"], ["--ddome.k=3"], ["--ddome.no-teach"],
    ["--net", "linear", "--mlp.hidden", "3"],
    ["--methods", "fedprox", "--fedprox.mu", "1", "--fedopt.tau", "1"],
])  # fmt: skip
def test_an_option_that_nothing_reads_is_refused(moiety, words):
    found = moiety("run", "ist-digits", *words)
    assert found.code == 2
    assert "do not read the options of" in found.err or "has no option" in found.err


def test_an_option_that_a_network_does_not_have_is_refused(moiety):
    found = moiety("run", "quickstart", "--mlp.dropout", "0.5")
    assert found.code == 2
    assert "mlp has no option --mlp.dropout; known are hidden" in found.err
    found = moiety("run", "quickstart", "--ddome.expert", "5")
    assert "did you mean 'experts'" in found.err


def test_what_a_recipe_says_of_another_optimizer_or_schedule_is_dropped_what_was_said_stays():
    base = replace(RECIPES["yours"].record.local, betas=(0.5, 0.9), lr_schedule="cosine", floor=0.1)
    record = replace(RECIPES["yours"].record, local=replace(base, optimizer="adamw"))
    words = ["--local.optimizer", "sgd", "--local.lr-schedule=constant"]
    found = drop_unread(record, words, ["local.optimizer", "local.lr-schedule"]).local
    assert (found.betas, found.floor) == ((0.9, 0.999), 0.0)
    assert drop_unread(record, [], []) == record
    kept = drop_unread(record, words, ["local.betas"]).local
    assert (kept.betas, kept.floor) == ((0.5, 0.9), 0.0)


def test_fields_of_a_file_that_nothing_reads_are_refused(moiety, tmp_path):
    (tmp_path / "mine.toml").write_text("[ddome]\nk = 3\n")
    for command in ("run", "plan", "sweep"):
        found = moiety(command, "ist-digits", "--config", "mine.toml")
        assert (found.code, "options of ddome" in found.err) == (2, True)
    found = moiety("sweep", "ist-digits", "--methods", "ist", "--try", "ddome.k=1,2")
    assert (found.code, "options of ddome" in found.err) == (2, True)


@pytest.mark.parametrize("old", [*RENAMED, "net.hidden", "net.shared_blocks"])
def test_an_old_option_is_refused_and_the_new_one_told(moiety, tmp_path, old):
    new = RENAMED.get(old, "gpt." + old.partition(".")[2])
    told, recipe = f"is now --{new.replace('_', '-')}", "ist-shakespeare"
    flag = "--" + old.replace("_", "-")
    (tmp_path / "mine.json").write_text(json.dumps({"fields": nest_value(old, 1)}))
    for words in (
        [flag, "1"],
        ["--config", "mine.json"],
        ["--methods", "ist", "--try", f"{old}=1,2"],
    ):
        found = moiety("sweep" if "--try" in words else "run", recipe, *words)
        assert found.code == 2
        assert told in found.err


def test_the_new_names_of_old_options_are_there():
    for new in RENAMED.values():
        override_fields(Federation(), nest_value(new, read(Federation(), new)))


def read(record, path: str):
    """Read a field by its dotted name."""
    for name in path.split("."):
        record = getattr(getattr(record, "options", record) if name in RECORDS else record, name)
    return list(record) if isinstance(record, tuple) else record


def test_the_help_offers_the_values_that_are_taken():
    """The rules of staleness, by the names under which they are chosen."""
    told = inspect.getdoc(Schedule) or ""
    assert all(f"``{name}``" in told for name in (*STALENESS, *SCHEDULE_KINDS))
