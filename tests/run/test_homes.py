"""Data sets from their homes: a server on loopback stands for them."""

import gzip
import hashlib
import http.server
import threading
from dataclasses import replace

import pytest

from moiety.data import cache, homes
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
