"""Data sets from their homes: a server on loopback stands for them."""

import gzip
import hashlib
import http.server
import io
import tarfile
import threading
from dataclasses import replace

import numpy as np
import pytest

from moiety.data import cache, homes
from moiety.data.cifar import TEST, TRAIN, pack_strips
from moiety.data.homes import DataHome, RemoteFile, fetch_dataset, pack_again, pack_text

pytest.importorskip("pooch", reason="the extra 'data' is not installed")

TEXT = b"To be, or not to be"


@pytest.fixture
def home(tmp_path, monkeypatch):
    """Serve a file; give a data set of it, and what was asked for."""
    asked: list[str] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            self.send_response(200)
            self.end_headers()
            self.wfile.write(TEXT)

        def log_message(self, format, *args):  # noqa: A002
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    url = f"http://127.0.0.1:{server.server_port}/text"
    digest = f"sha256:{hashlib.sha256(TEXT).hexdigest()}"
    made = DataHome((RemoteFile(url, digest, "kept.txt.gz", pack_text),), "free", "us")
    monkeypatch.setattr(homes, "HOMES", {"play": made})
    monkeypatch.setenv(homes.DATA_VARIABLE, str(tmp_path / "data"))
    yield made, asked
    server.shutdown()
    server.server_close()
    thread.join()


def test_a_set_is_brought_once_checked_and_kept(home, moiety):
    _, asked = home
    said = moiety("data", "fetch", "play")
    assert said.code == 0, said.err
    assert "us; licence: free" in said.out
    assert gzip.decompress(cache.find_data_file("kept.txt.gz").read_bytes()) == TEXT
    assert moiety("data", "fetch", "play").code == 0
    assert asked == ["/text"]


def test_another_file_than_the_known_one_is_refused(home, tmp_path, monkeypatch):
    made, _ = home
    other = replace(made.files[0], digest="sha256:" + "0" * 64)
    monkeypatch.setattr(homes, "HOMES", {"play": replace(made, files=(other,))})
    with pytest.raises(ValueError, match="cannot be fetched"):
        list(fetch_dataset("play", tmp_path / "new"))
    assert not (tmp_path / "new" / "kept.txt.gz").exists()
    with pytest.raises(ValueError, match="no public home of 'x' is known; known: play"):
        list(fetch_dataset("x", tmp_path))


def test_every_home_says_its_terms_and_how_its_files_are_known():
    for home in homes.HOMES.values():
        assert home.licence
        assert home.source
        for file in home.files:
            kind, _, digest = file.digest.partition(":")
            assert len(digest) == {"md5": 32, "sha256": 64}[kind]
    assert gzip.decompress(pack_text(TEXT)) == TEXT
    assert pack_again(gzip.compress(TEXT))[:6] == b"\xfd7zXZ\0"


def test_cifar_is_kept_as_it_is_read(tmp_path, monkeypatch):
    """Of an archive with two images a batch: bytes, labels and order come back."""
    rng, made = np.random.default_rng(0), io.BytesIO()
    rows = {member: rng.integers(0, 256, (2, 3073), np.uint8) for member in (*TRAIN, TEST)}
    with tarfile.open(fileobj=made, mode="w:gz") as packed:
        for member, batch in rows.items():
            about = tarfile.TarInfo(member)
            about.size = batch.size
            packed.addfile(about, io.BytesIO(batch.tobytes()))
    for name, pack in homes.PACKS.items():
        (tmp_path / name).write_bytes(pack(made.getvalue()))
        assert pack(made.getvalue()) == (tmp_path / name).read_bytes()
    monkeypatch.setenv(homes.DATA_VARIABLE, str(tmp_path))
    for name, member in (("train_2", TRAIN[1]), ("test", TEST)):
        wanted = rows[member][:, 1:].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
        assert np.array_equal(cache.read_strips(f"cifar10_{name}.zip"), wanted)
    with cache.open_arrays("cifar10_labels.npz") as labels:
        told = np.concatenate([labels["train"], labels["test"]])
    assert np.array_equal(told, np.concatenate([batch[:, 0] for batch in rows.values()]))
    with pytest.raises(ValueError, match=r"other\.bin has 0 bytes"):
        pack_strips(made.getvalue(), "other.bin")
