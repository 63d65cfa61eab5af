"""The frozen set of options: a change of the command line shows here and in the change log."""

import re
from pathlib import Path

import pytest

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


@pytest.mark.parametrize("command", COMMANDS)
def test_the_options_of_a_command(moiety, command):
    """To change them on purpose, change options.txt: a line ``COMMAND: option option ...``."""
    frozen = dict(line.split(": ", 1) for line in FROZEN.read_text().splitlines())
    found = options(moiety(*command.split(), "--help").out) - {"--help"}
    assert found == set(frozen[command].split())


def test_nothing_else_is_frozen():
    names = [line.split(": ", 1)[0] for line in FROZEN.read_text().splitlines()]
    assert names == list(COMMANDS)
