"""Seconds to an accuracy over links, on figures made by hand; nothing is played."""

from benchmarks.wire import PLAIN, count_bytes_to, write_links


def test_seconds_are_rounds_to_the_accuracy_times_those_of_a_round():
    """Means over seeds; a run that was not timed has no line, one that never comes there no end."""
    told = {"rounds": [2, 4], "bytes": [10, 20], "accuracy": [0.5, 0.96]}
    late = {**told, "accuracy": [0.5, 0.6]}
    runs = {("ist", PLAIN): [told, {**told, "accuracy": [0.95, 0.96]}], ("ddome", PLAIN): [told],
            ("fedavg", PLAIN): [late]}  # fmt: skip
    links = {"10mbit": {f"ist, {PLAIN}": 0.5, f"fedavg, {PLAIN}": 2.0}}
    assert write_links(runs, links).splitlines()[2:] == [
        "| ist | float32 | 3 | 1.50 |",
        "| fedavg | float32 | inf | inf |",
    ]
    assert count_bytes_to(late, 0.95) == float("inf")
