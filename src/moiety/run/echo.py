"""What commands print."""

from __future__ import annotations

import json
import sys
from typing import Any


def echo(text: str) -> None:
    """Print to standard output."""
    print(text)


def echo_json(value: Any) -> None:
    """Print one JSON document to standard output."""
    print(json.dumps(value, indent=2))


def echo_warning(text: str) -> None:
    """Print to standard error."""
    print(text, file=sys.stderr)
