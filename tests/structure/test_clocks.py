"""No test looks at a clock, and none gives up before a machine that is busy is done."""

import re
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
APART = ("waiting.py", "test_clocks.py")
FILES = sorted(path for path in TESTS.rglob("*.py") if path.name not in APART)
CLOCK = re.compile(r"perf_counter|monotonic|time\.time\(|process_time")
LIMIT = re.compile(r"(?:timeout=|\.join\(|\.wait\()(\d[\d_.]*)")


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(TESTS).as_posix())
def test_events_are_waited_for_and_not_seconds(path):
    """``tests/waiting.py`` has the one clock; whatever else has a limit takes its ``LAST_S``."""
    text = path.read_text(encoding="utf8")
    assert not CLOCK.findall(text), "wait for the event, or count what does not vary"
    assert not LIMIT.findall(text), "a machine under load misses this; take LAST_S"


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(TESTS).as_posix())
def test_drawn_examples_have_no_deadline(path):
    """Hypothesis gives an example a fifth of a second, unless it is told not to."""
    text = path.read_text(encoding="utf8")
    assert "@given" not in text or "deadline=None" in text
