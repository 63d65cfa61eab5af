"""Files that are damaged, hostile or mistaken: one sentence that names the file, and no more."""

import gzip
import os
import zipfile

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from moiety.data.classes import encode_labels, read_csv_labels
from moiety.data.files import read_file
from moiety.data.limits import VARIABLE


def refused(path, words=".", **options):
    """Read what cannot be read; the refusal is one line and names the file."""
    with pytest.raises(ValueError, match=words) as caught:
        read_file(path, **options)
    assert path.name in str(caught.value)
    assert "\n" not in str(caught.value)


def write_good(folder, name):
    x, y = np.arange(12.0).reshape(4, 3), np.array(["u", "v", "u", "v"])
    path = folder / name
    if name.endswith("npz"):
        (np.savez if name.startswith("plain") else np.savez_compressed)(path, x=x, y=y)
    elif name.endswith("parquet"):
        pq.write_table(pa.table({"a": x[:, 0], "label": y.tolist()}), path)
    else:
        path.write_text("a,label\n" + "\n".join(f"{row},{one}" for row, one in enumerate(y)))
    return path


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_a_changed_file_is_refused_or_read(tmp_path_factory, data):
    """Whatever a parser of others raises for bytes of any kind becomes a sentence."""
    name = data.draw(st.sampled_from(["plain.npz", "packed.npz", "t.parquet", "t.csv"]))
    path = write_good(tmp_path_factory.mktemp("files"), name)
    whole = path.read_bytes()
    first = data.draw(st.integers(0, len(whole) - 1))
    noise = data.draw(st.binary(max_size=8))
    path.write_bytes(whole[:first] + noise + whole[data.draw(st.integers(first, len(whole))) :])
    try:
        said = f"{path.name}: {len(read_file(path).x)} rows"
    except ValueError as error:
        said = str(error)
    assert path.name in said
    assert "\n" not in said


@pytest.mark.parametrize("suffix", ["npz", "csv", "parquet"])
@pytest.mark.parametrize("make", [
    os.mkfifo, lambda path: path.symlink_to("/dev/zero"), lambda path: path.symlink_to("gone"),
    lambda path: path.symlink_to(path), lambda path: path.mkdir(), lambda path: path.touch(),
])  # fmt: skip
def test_what_is_no_file_is_never_opened(tmp_path, suffix, make):
    make(tmp_path / f"t.{suffix}")
    refused(tmp_path / f"t.{suffix}")


def test_a_picture_that_is_a_pipe(tmp_path):
    os.mkfifo(tmp_path / "a.png")
    with pytest.raises(ValueError, match=r"a\.png is no PNG or JPEG image"):
        read_file(tmp_path)


@pytest.mark.parametrize(
    "data", [b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", b"GIF89a", b"P6 1 1 255\n000"]
)
def test_only_png_and_jpeg_are_pictures(tmp_path, data):
    """Whatever a file is named: for others Pillow starts programs."""
    (tmp_path / "a.png").write_bytes(data)
    with pytest.raises(ValueError, match=r"a\.png cannot be read as an image"):
        read_file(tmp_path)


@pytest.mark.parametrize("tag", range(1, 9))
def test_pictures_are_read_as_viewers_show_them(tmp_path, tag):
    upright = np.arange(12, dtype=np.uint8).reshape(3, 4)
    turned = {
        1: upright, 2: upright[:, ::-1], 3: upright[::-1, ::-1], 4: upright[::-1], 5: upright.T,
        6: np.rot90(upright), 7: upright[::-1, ::-1].T, 8: np.rot90(upright, -1),
    }[tag]  # fmt: skip
    exif = Image.Exif()
    exif[0x0112] = tag
    Image.fromarray(np.ascontiguousarray(turned)).save(tmp_path / "a.png", exif=exif)
    assert (read_file(tmp_path).x[0, 0] * 255).round().tolist() == upright.tolist()


@pytest.mark.parametrize("shape", ["(10**12, 8)", "(-1, -2)", "(2, 9)", "(0, 10**18)", "(" * 3000])
def test_arrays_that_lie_of_their_size(tmp_path, shape):
    head = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}}}\n".encode()
    with zipfile.ZipFile(tmp_path / "t.npz", "w") as packed:
        start = b"\x93NUMPY\x01\x00" + len(head).to_bytes(2, "little")
        packed.writestr("x.npy", start + head + bytes(16))
    refused(tmp_path / "t.npz")


def test_a_small_file_that_unpacks_to_much_is_refused_unless_allowed(tmp_path, monkeypatch):
    path = tmp_path / "t.npz"
    monkeypatch.setattr("moiety.data.limits.ALWAYS", 1 << 12)
    np.savez_compressed(path, x=np.zeros((100_000, 4), np.float32))
    refused(path, VARIABLE)
    monkeypatch.setenv(VARIABLE, "1600128")
    assert read_file(path).x.shape == (100_000, 4)
    monkeypatch.setattr("moiety.core.memory.read_memory_bytes", lambda: 1 << 20)
    refused(path, "but this machine has")


@pytest.mark.parametrize(
    ("values", "said"),
    [
        (np.array([1e19, 2e19]), "1e\\+19 in row 1"),
        (np.array([1.0, np.inf]), "inf in row 2"),
        (np.array([0.5]), "0.5 in row 1"),
        (np.array([np.nan]), "missing in row 1"),
        (np.array([b"u", b"caf\xe9"]), "row 2, which is not UTF-8"),
        (np.array(["u", " "]), "missing in row 2"),
        (np.array(["u", "NA"]), "missing in row 2"),
        (np.array([None, "u"], dtype=object), "missing in row 1"),
        (np.array([1j]), "complex128"),
    ],
)
def test_labels_are_checked_before_they_are_cast(tmp_path, values, said):
    with pytest.raises(ValueError, match=said):
        encode_labels(tmp_path, "label", values)


@pytest.mark.parametrize(
    ("written", "classes"),
    [
        (["10", "7", "10"], ("7", "10")),
        (["1.0", "2", "1"], ("1", "2")),
        (["01", "1", "1"], ("01", "1")),
        (["99999999999999999998", "99999999999999999999"],) * 2,
        (["true", "False", "no"], ("False", "no", "true")),
        (["2026-01-02", "x"], ("2026-01-02", "x")),
    ],
)
def test_classes_of_a_table_keep_their_names(tmp_path, written, classes):
    _, names = encode_labels(tmp_path, "label", read_csv_labels(written))
    assert names == tuple(classes)


@pytest.mark.parametrize(("raw", "said"), [
    (b"a,label\n1,u\n\x002,v\n", "bytes of value 0"),
    (gzip.compress(b"a,label\n1,u\n2,v\n", mtime=0), r"packed by gzip; call it t\.csv\.gz"),
    ("a,label\n1,u\n2,v\n".encode("utf-16"), "is not CSV in UTF-8"),
])  # fmt: skip
def test_what_is_no_text_though_it_is_called_so(tmp_path, raw, said):
    (tmp_path / "t.csv").write_bytes(raw)
    refused(tmp_path / "t.csv", said)


def test_latin_letters_late_in_a_table(tmp_path):
    path = tmp_path / "t.csv"
    path.write_bytes(b"a,label\n" + b"1,the\n" * 3000 + "2,café\n".encode("latin1"))
    refused(path, "in row 3001, which is not UTF-8")
