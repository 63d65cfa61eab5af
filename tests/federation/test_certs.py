"""Trial keys: what a TLS client and Flower read, and who may read them."""

import datetime
import ssl

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.serialization import load_ssh_private_key, load_ssh_public_key

from moiety.federation.certs import write_certificates
from moiety.run.cli import main


@pytest.fixture(scope="module")
def keys(tmp_path_factory):
    folder = tmp_path_factory.mktemp("certs") / "keys"
    words = ["--hosts", "link.example.org", "10.0.0.7", "--nodes", "north", "east", "--days", "2"]
    assert main(["flower", "certs", str(folder), *words]) == 0
    return folder


def shake_hands(keys, roots, host):
    """Let a client and a server greet each other in memory."""
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(keys / "server.pem", keys / "server.key")
    client = ssl.create_default_context(cafile=str(roots))
    up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
    sides = [
        client.wrap_bio(down, up, server_hostname=host),
        server.wrap_bio(up, down, server_side=True),
    ]
    for _ in range(4):
        for side in sides:
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                continue


@pytest.mark.parametrize("host", ["link.example.org", "10.0.0.7", "localhost", "127.0.0.1"])
def test_a_server_is_trusted_under_its_names(keys, host):
    shake_hands(keys, keys / "ca.crt", host)


def test_it_is_not_trusted_under_another_name_nor_by_another_authority(keys, tmp_path):
    with pytest.raises(ssl.SSLCertVerificationError, match="Hostname mismatch"):
        shake_hands(keys, keys / "ca.crt", "elsewhere.example.org")
    write_certificates(tmp_path / "other", [], ["x"], 2)
    with pytest.raises(ssl.SSLCertVerificationError, match="unable to get local issuer"):
        shake_hands(keys, tmp_path / "other" / "ca.crt", "localhost")


def test_private_keys_are_their_owner_s_and_nodes_have_pairs(keys):
    rights = {path.name: path.stat().st_mode & 0o777 for path in keys.iterdir()}
    private = {"ca.key", "server.key", "north.key", "east.key"}
    assert {name for name, mode in rights.items() if mode == 0o600} == private
    assert set(rights) == {*private, "ca.crt", "server.pem", "north.pub", "east.pub"}
    found = load_ssh_private_key((keys / "north.key").read_bytes(), None).public_key()
    assert found == load_ssh_public_key((keys / "north.pub").read_bytes())
    assert isinstance(found, EllipticCurvePublicKey)
    assert found.curve.name == "secp384r1"
    leaf = x509.load_pem_x509_certificate((keys / "server.pem").read_bytes())
    left = leaf.not_valid_after_utc - datetime.datetime.now(datetime.UTC)
    assert datetime.timedelta(days=1) < left <= datetime.timedelta(days=2)


def test_nothing_is_written_over_and_names_are_files(keys, tmp_path, capsys):
    before = {path.name: path.read_bytes() for path in keys.iterdir()}
    assert main(["flower", "certs", str(keys)]) == 1
    assert "keys are never written over" in capsys.readouterr().err
    assert before == {path.name: path.read_bytes() for path in keys.iterdir()}
    new = ["flower", "certs", str(tmp_path / "new")]
    for name in ("../out", "server", "a/b", "", "."):
        assert main([*new, "--nodes", name]) == 1
        assert f"a node called {name!r}" in capsys.readouterr().err
    for host in ("", "a b", "-a.org", "link.org:8000", "a..b"):
        assert main([*new, f"--hosts={host}"]) == 1
        assert f"a host called {host!r}" in capsys.readouterr().err
    assert main(["flower", "certs", str(tmp_path / "new"), "--nodes", "a", "a"]) == 2
    assert main(["flower", "certs", str(tmp_path / "new"), "--days", "0"]) == 2
    assert main(["flower", "what"]) == 2
    assert not list(tmp_path.iterdir())
