"""What commands print."""

from __future__ import annotations

import json
import sys
from typing import Any


def say(text: str) -> None:
    """Print to standard output."""
    print(text)


def say_json(value: Any) -> None:
    """Print one JSON document to standard output."""
    print(json.dumps(value, indent=2))


def warn(text: str) -> None:
    """Print to standard error."""
    print(text, file=sys.stderr)
