"""Libraries that only some data need, imported when they are asked for."""

import importlib
from typing import Any


def import_extra(module: str, purpose: str) -> Any:
    """Import a module of the extra ``data``.

    Args:
        module: its dotted name.
        purpose: what it is needed for, e.g. ``"reading CSV files"``.

    Raises:
        ImportError: if it is not installed; names the remedy.

    >>> import_extra("no_such_module", "reading stones")
    Traceback (most recent call last):
    ImportError: reading stones needs no_such_module; run: pip install "moiety[data]"
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        package = module.partition(".")[0]
        raise ImportError(f'{purpose} needs {package}; run: pip install "moiety[data]"') from error
