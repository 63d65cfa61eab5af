"""The lines of a ledger, forth and back, and what is refused."""

import json

import pytest

from moiety.core.ledger import End, Evaluation, Group, Round, Work, decode_entry, encode_entry

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


def test_unknown_fields_kinds_and_versions_are_named():
    raw = json.loads(encode_entry(End(3, 0.5, "finished")))
    with pytest.raises(ValueError, match=r"kind 'end' has unknown fields \['colour'\]"):
        decode_entry(json.dumps({**raw, "colour": "red"}))
    with pytest.raises(ValueError, match="unknown kind 'ends'"):
        decode_entry(json.dumps({**raw, "kind": "ends"}))
    with pytest.raises(ValueError, match="version 99"):
        decode_entry('{"kind": "start", "version": 99}')
