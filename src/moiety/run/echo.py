"""What commands print: text from files steers no terminal."""

from __future__ import annotations

import json
import sys
from typing import Any

from moiety.ops.text import hide_controls


def echo(text: str) -> None:
    """Print to standard output."""
    print(hide_controls(text))


def echo_json(value: Any) -> None:
    """Print one JSON document to standard output; what is no plain letter is escaped."""
    print(json.dumps(value, indent=2).replace("\x7f", "\\u007f"))


def echo_warning(text: str) -> None:
    """Print to standard error."""
    print(hide_controls(text), file=sys.stderr)
