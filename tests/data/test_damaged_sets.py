"""Files of MOIETY_DATA that are damaged: one sentence that names the file, or what was there."""

import gzip
import io
import lzma
import struct
import zipfile

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from moiety.data.cache import VARIABLE, read_idx, read_public_graph, read_strips
from moiety.data.texts import shakespeare

GRAPH = {
    "shape": np.array([4, 3]), "indptr": np.array([0, 1, 2, 3, 4]),
    "indices": np.array([0, 1, 2, 0]), "data": np.ones(4, np.float32),
    "labels": np.array([0, 1, 0, 1]), "edges": np.array([[0, 1, 2], [1, 2, 3]]),
    **{f"{part}_mask": np.array([True, False, True, False]) for part in ("train", "val", "test")},
}  # fmt: skip


def write_strips():
    """Write a zip with a strip of two images."""
    strip, packed = io.BytesIO(), io.BytesIO()
    Image.fromarray(np.arange(64 * 32 * 3, dtype=np.uint8).reshape(64, 32, 3)).save(strip, "PNG")
    with zipfile.ZipFile(packed, "w") as file:
        file.writestr("strip.png", strip.getvalue())
    return packed.getvalue()


def write_graph(**changes):
    """Write a graph of four papers."""
    packed = io.BytesIO()
    np.savez_compressed(packed, **{**GRAPH, **changes})
    return packed.getvalue()


PIXELS = b"\x00\x00\x08\x03" + struct.pack(">3i", 2, 2, 3) + bytes(range(12))
TEXT = "all the world is a stage " * 40
FILES = {
    "images.xz": (lzma.compress(PIXELS), lambda: torch.tensor(read_idx("images.xz"))),
    "strips.zip": (write_strips(), lambda: torch.tensor(read_strips("strips.zip"))),
    "graph.npz": (write_graph(), lambda: read_public_graph("graph.npz", "small", "", "").x),
    "lm_tinyshakespeare.txt.gz": (
        gzip.compress(TEXT.encode(), mtime=0), lambda: shakespeare().x
    ),
}  # fmt: skip


def refused(read, name):
    with pytest.raises(ValueError, match="copy it again from where it is whole") as caught:
        read()
    assert name in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", FILES)
@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_any_damage_is_refused_in_a_sentence(tmp_path_factory, name, data):
    """A byte changed, a stretch lost or the end cut off; unless nothing that is read changed."""
    whole, read = FILES[name]
    first = data.draw(st.integers(0, len(whole) - 1))
    last = data.draw(st.sampled_from([first, first + 1, len(whole)]))
    fill = data.draw(st.binary(max_size=1))
    folder = tmp_path_factory.mktemp("data")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(VARIABLE, str(folder))
        (folder / name).write_bytes(whole)
        good = read()
        (folder / name).write_bytes(whole[:first] + fill + whole[last:])
        try:
            found = read()
        except ValueError:
            refused(read, name)
        else:
            assert torch.equal(found, good)


@pytest.mark.parametrize("name", FILES)
def test_an_empty_file_is_damage(tmp_path, monkeypatch, name):
    monkeypatch.setenv(VARIABLE, str(tmp_path))
    (tmp_path / name).write_bytes(b"")
    refused(FILES[name][1], name)


@pytest.mark.parametrize("changes", [
    {"indptr": np.array([0, 9])}, {"indices": np.array([0, 1, 2, 3])}, {"shape": np.array([4])},
    {"labels": np.array([])}, {"edges": np.array(3)}, {"data": np.array(["a", "b", "c", "d"])},
])  # fmt: skip
def test_a_graph_that_does_not_fit_itself(tmp_path, monkeypatch, changes):
    monkeypatch.setenv(VARIABLE, str(tmp_path))
    (tmp_path / "graph.npz").write_bytes(write_graph(**changes))
    refused(lambda: read_public_graph("graph.npz", "small", "", ""), "graph.npz")
