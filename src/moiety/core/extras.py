"""Libraries that only some uses need: how they are installed, and their import when asked for."""

import importlib
from typing import Any


def explain_install(extra: str) -> str:
    """Say how an extra is installed: the one place where the package's name on an index may stand.

    >>> explain_install("data")
    'pip install ".[data]" in a checkout of moiety (of a wheel: pip install "FILE.whl[data]")'
    """
    return (
        f'pip install ".[{extra}]" in a checkout of moiety '
        f'(of a wheel: pip install "FILE.whl[{extra}]")'
    )


def import_extra(module: str, purpose: str, extra: str = "data") -> Any:
    """Import a module that an extra brings.

    Args:
        module: its dotted name.
        purpose: what it is needed for, e.g. ``"reading CSV files"``.
        extra: the extra that brings it.

    Raises:
        ImportError: if it is not installed; names the remedy.

    >>> import_extra("no_such_module", "reading stones")
    Traceback (most recent call last):
    ImportError: reading stones needs no_such_module; run: pip install ".[data]" in a checkout ...
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        package = module.partition(".")[0]
        raise ImportError(f"{purpose} needs {package}; run: {explain_install(extra)}") from error
