"""The lines of a ledger, forth and back, and what is refused."""

import json
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moiety.core.ledger import (
    End,
    Evaluation,
    Group,
    Round,
    Work,
    decode_entry,
    encode_entry,
    read_entries,
    read_ledger,
)
from moiety.core.lines import add_line_digest
from moiety.core.state import Refusal
from moiety.report.text import format_table
from moiety.run.ledger import append_entry

WORK = Work(3, "anchor", {"expert": [1]}, 10, 20, 4, 50, 1.5, 0.5, 1.0, 7, {"expert": 1})


@pytest.mark.parametrize(
    "entry",
    [
        End(3, 0.5, "failed", "why"),
        Round(7, 0, 0.1, 10, 20, 1.0, [WORK], [0.5, 0.5], refused=(Refusal(4, "it is none"),)),
        Evaluation(
            7, 0.1, {"seen": Group([3], [8], {"accuracy": [0.25], "loss": [1.5]})}, [[1, 2]]
        ),
    ],
)
def test_entries_survive_a_line(entry):
    line = encode_entry(entry)
    assert "\n" not in line
    assert decode_entry(line) == entry


def seal(raw):
    return add_line_digest(json.dumps({name: one for name, one in raw.items() if name != "check"}))


def test_unknown_fields_kinds_and_versions_are_named():
    raw = json.loads(encode_entry(End(3, 0.5, "finished")))
    with pytest.raises(ValueError, match=r"kind 'end' has unknown fields \['colour'\]"):
        decode_entry(seal({**raw, "colour": "red"}))
    with pytest.raises(ValueError, match="unknown kind 'ends'"):
        decode_entry(seal({**raw, "kind": "ends"}))
    with pytest.raises(ValueError, match="version 99"):
        decode_entry('{"kind": "start", "version": 99}')


LINES = [End(3, 0.5, "failed", "why: é"), Round(7, 0, 0.1, 10, 20, 1.0, [WORK], [0.5, 0.5])]


@settings(deadline=None)
@given(st.data())
def test_any_byte_that_changed_is_refused(tmp_path_factory, data):
    """But for a last line cut short, which a crash leaves: it counts as not written."""
    path = tmp_path_factory.mktemp("ledger") / "ledger.jsonl"
    whole = "".join(encode_entry(entry) + "\n" for entry in LINES).encode()
    place = data.draw(st.integers(0, len(whole) - 1))
    other = data.draw(st.integers(0, 255).filter(lambda byte: byte != whole[place]))
    path.write_bytes(whole[:place] + bytes([other]) + whole[place + 1 :])
    with pytest.raises(ValueError, match=r"ledger\.jsonl, line \d: "):
        list(read_entries(path))
    path.write_bytes(whole[:place])
    assert list(read_entries(path)) == LINES[: whole[:place].count(b"\n")]


def write_old_ledger(path, texts):
    """Write a ledger as version 3 did: accuracy and loss of groups, and whether rows are texts."""
    start = {
        "recipe": "r", "method": "m", "seed": 0, "engine": "serial", "device": "cpu", "rounds": 1,
        "command": "", "time": "", "config": {}, "environment": {}, "classes": ["a", "b"],
        "num_seen": 2, "num_unseen": 0, "seen": [], "unseen": [], "num_parameters": 1,
        "constant_bytes": 0, "version": 3, "note": "", "texts": texts,
    }  # fmt: skip
    group = {"workers": [0, 1], "accuracy": [0.5, None], "rows": [4, 0], "loss": [1.5, None]}
    lines = [
        {"kind": "start", **start},
        {"kind": "evaluation", "round": 1, "seconds": 0.1, "groups": {"seen": group}, "routes": []},
    ]
    path.write_text("".join(seal(line) + "\n" for line in lines))
    return read_ledger(path)


@pytest.mark.parametrize(("texts", "first"), [(False, "accuracy"), (True, "loss")])
def test_a_ledger_of_version_3_is_still_read(tmp_path, texts, first):
    ledger = write_old_ledger(tmp_path / "ledger.jsonl", texts)
    metric = ledger.start.metrics[0]
    assert (metric.name, metric.higher_is_better) == (first, not texts)
    assert ledger.start.objective == ("tokens" if texts else "classes")
    seen = ledger.evaluations[0].groups["seen"]
    assert seen.metrics["accuracy"][0] == 0.5
    assert seen.metrics["loss"][0] == 1.5
    assert math.isnan(seen.metrics["accuracy"][1])
    assert ("1.500 nats" if texts else "50.0 %") in format_table([ledger])


MANY = [End(number, 0.5, "lost") for number in range(5)]


@settings(deadline=None)
@given(st.data())
def test_any_line_lost_doubled_or_moved_is_refused(tmp_path_factory, data):
    """But for lines lost at the end, where a ledger was cut."""
    path = tmp_path_factory.mktemp("ledger") / "ledger.jsonl"
    for entry in MANY:
        append_entry(path, entry)
    lines = path.read_bytes().splitlines(keepends=True)
    assert list(read_entries(path)) == MANY
    places = data.draw(st.lists(st.integers(0, len(lines) - 1), max_size=7))
    path.write_bytes(b"".join(lines[place] for place in places))
    if places == list(range(len(places))):
        assert list(read_entries(path)) == MANY[: len(places)]
    else:
        with pytest.raises(ValueError, match="or does not follow the one before"):
            list(read_entries(path))


def test_a_ledger_of_old_is_read_and_goes_on(tmp_path):
    """Its digests are of each line alone; what is added then tells of the line before."""
    path = tmp_path / "ledger.jsonl"
    path.write_text("".join(encode_entry(entry) + "\n" for entry in MANY[:3]))
    for entry in MANY[3:]:
        append_entry(path, entry)
    assert list(read_entries(path)) == MANY
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join([*lines[:2], *lines[3:]]))
    with pytest.raises(ValueError, match=r"line 3: .* or does not follow"):
        list(read_entries(path))
