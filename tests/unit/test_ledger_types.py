"""The lines of a ledger, forth and back, and what is refused."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moiety.core.ledger import (
    End,
    Evaluation,
    Group,
    Round,
    Work,
    add_line_digest,
    decode_entry,
    encode_entry,
    read_entries,
)

WORK = Work(3, "anchor", {"expert": [1]}, 10, 20, 4, 50, 1.5, 0.5, 1.0, 7, {"expert": 1})


@pytest.mark.parametrize(
    "entry",
    [
        End(3, 0.5, "failed", "why"),
        Round(7, 0, 0.1, 10, 20, 1.0, [WORK], [0.5, 0.5]),
        Evaluation(7, 0.1, {"seen": Group([3], [0.25], [8], [1.5])}, [[1, 2]]),
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
