"""A data set of Hugging Face, for the tests that read one."""

import pytest


def make(rows: int):
    """Make a set of Hugging Face with a text, a number and a label of two names."""
    hub = pytest.importorskip("datasets", reason="the extra 'hf' is not installed")
    kinds = hub.Features(
        {
            "text": hub.Value("string"),
            "size": hub.Value("float32"),
            "label": hub.ClassLabel(names=["bad", "good"]),
        }
    )
    said = [f"it was {['bad', 'good'][place % 2]} in town {place}" for place in range(rows)]
    columns = {"text": said, "size": [float(place) for place in range(rows)]}
    return hub.Dataset.from_dict(
        {**columns, "label": [place % 2 for place in range(rows)]}, features=kinds
    )
