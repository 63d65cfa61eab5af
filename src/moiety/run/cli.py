"""The command line: ``moiety COMMAND ...``."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Mapping, Sequence

from moiety.core.errors import (
    RunError,
    ToldError,
    UsageError,
    explain_memory_error,
    explain_os_error,
)
from moiety.engine.meeting import is_first_here
from moiety.run.echo import echo, echo_warning

COMMANDS: Mapping[str, str] = {
    "run": "play a recipe",
    "plan": "say what a recipe would cost, and which method to choose",
    "profile": "play a few rounds and say where their seconds go",
    "sweep": "try values of fields and choose by validation accuracy",
    "resume": "go on with a run that stopped",
    "list": "list methods, recipes, engines, networks and data sets",
    "data": "bring data sets from their public homes",
    "report": "write one page from several runs",
    "predict": "use a finished model on a file of rows",
    "flower": "write an app of Flower that plays a recipe on nodes",
    "expert": "trade experts: train one alone, add, drop, replace, list",
    "personalize": "make a small model for one worker from unlabelled rows",
    "export": "write a finished model as one file for torch.export or ONNX",
}

HELP = """usage: moiety COMMAND ...

Train a large model by training its parts, wherever the data live.

commands:
{commands}

examples:
  moiety run quickstart
  moiety run quickstart --help
  moiety list

moiety COMMAND --help says more.
"""


def main(words: Sequence[str] | None = None) -> int:
    """Run a command; 0 on success, 1 on failure, 2 on wrong usage, 130 after Ctrl-C."""
    words = list(sys.argv[1:] if words is None else words)
    if not words or words[0] in ("-h", "--help", "help"):
        lines = "\n".join(f"  {name:12} {about}" for name, about in COMMANDS.items())
        echo(HELP.format(commands=lines))
        return 0 if words else 2
    if words[0] == "--version":
        from importlib.metadata import version  # slow, and for this alone

        echo(version("moiety"))
        return 0
    try:
        return find_command(words[0])(words[1:])
    except KeyboardInterrupt:
        return 130
    except Exception as error:
        return tell_error(error)


def tell_error(error: Exception) -> int:
    """Tell what a user can mend, unless another rank of this machine does; give the exit code."""
    if isinstance(error, ToldError):
        return error.code
    told, wrong = explain_error(error), isinstance(error, UsageError)
    if told is None:
        raise error
    if is_first_here() or not wrong:  # torchrun starts all of a machine with the same words
        echo_warning(f"moiety: {told}")
    return 2 if wrong else 1


def explain_error(error: Exception) -> str | None:
    """Say in one sentence what a user can mend; None for what only we can."""
    if isinstance(error, RunError | ValueError | ImportError):
        return str(error)
    if isinstance(error, OSError):
        where = f"{error.filename}: " if error.filename else ""
        return f"{where}{explain_os_error(error)}"
    return explain_memory_error(error)


def find_command(name: str):  # noqa: ANN201
    """Find a command by name, importing what it needs and no more."""
    if name not in COMMANDS:
        from moiety.recipes.fields import suggest_names

        raise UsageError(f"unknown command {name!r}{suggest_names(name, COMMANDS)}")
    return getattr(importlib.import_module(f"moiety.run.commands.{name}"), f"do_{name}")


if __name__ == "__main__":
    sys.exit(main())
