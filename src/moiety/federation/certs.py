"""Trial keys of a federation: an authority, the server's certificate, a key for each node."""

from __future__ import annotations

import datetime
import ipaddress
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from moiety.core.errors import RunError
from moiety.core.extras import import_extra
from moiety.core.files import holds_anything, write_once
from moiety.core.keys import OWNER_ALONE
from moiety.federation.node import check_name

PURPOSE, EXTRA = "making trial certificates", "flower"
LOOPBACK = ("localhost", "127.0.0.1", "::1")
"""What every certificate is for besides: a SuperLink's own processes call it so."""

LABEL = "[a-zA-Z0-9_]([a-zA-Z0-9_-]{0,61}[a-zA-Z0-9])?"
HOST = rf"(\*\.)?{LABEL}(\.{LABEL})*"
"""How hosts are called; ``*.`` stands for one label."""


def write_certificates(
    folder: Path, hosts: Sequence[str], nodes: Sequence[str], days: int
) -> list[Path]:
    """Write an authority, a certificate for a server, and a pair of keys for each node.

    Keys are of the curve P-384: in PEM for TLS, in OpenSSH's form for nodes, as Flower reads them.

    Args:
        folder: to write to; must be new or empty.
        hosts: names and addresses under which nodes reach the server, besides this machine's own.
        nodes: names of the nodes.
        days: after which the certificates are of no use any more.

    Returns:
        The files; those with private keys can be read by their owner alone.

    Raises:
        RunError: if there is something in the folder already; nothing is written over.
        ValueError: for a name that cannot be that of a file, or of a host.
    """
    for node in nodes:
        check_name(node)
        if node in ("ca", "server"):
            raise ValueError(f"a node called {node!r}: so are other files; choose another name")
    folder = folder.absolute()
    if holds_anything(folder):
        raise RunError(f"{folder} is not empty, and keys are never written over; name a new folder")
    files = dict(make_authority(hosts, days))
    for node in nodes:
        files |= make_node_keys(node)
    folder.mkdir(parents=True, exist_ok=True)
    for name, data in files.items():
        write_once(folder / name, data, OWNER_ALONE if name.endswith(".key") else 0o644)
    return [folder / name for name in files]


def make_authority(hosts: Sequence[str], days: int) -> Mapping[str, bytes]:
    """Make an authority, and the certificate of a server that it signed."""
    authority, server = make_private_key(), make_private_key()
    forms = import_extra("cryptography.hazmat.primitives.serialization", PURPOSE, EXTRA)
    root = certify("moiety trial authority", authority.public_key(), authority, [], days)
    leaf = certify("moiety server", server.public_key(), authority, [*hosts, *LOOPBACK], days)
    return {
        "ca.crt": root.public_bytes(forms.Encoding.PEM),
        "ca.key": write_private(authority, forms.PrivateFormat.PKCS8),
        "server.pem": leaf.public_bytes(forms.Encoding.PEM),
        "server.key": write_private(server, forms.PrivateFormat.PKCS8),
    }


def certify(name: str, public: Any, signer: Any, hosts: Sequence[str], days: int) -> Any:
    """Make a certificate: of an authority where no hosts are named, else of a server.

    Args:
        name: of whose key it is.
        public: the key.
        signer: the authority's private key.
        hosts: for which it is.
        days: that it is valid.
    """
    x509 = import_extra("cryptography.x509", PURPOSE, EXTRA)
    hashes = import_extra("cryptography.hazmat.primitives.hashes", PURPOSE, EXTRA)

    def call(common: str) -> Any:
        return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, common)])

    now, root = datetime.datetime.now(datetime.UTC), not hosts
    usage = dict.fromkeys(
        ("content_commitment", "key_encipherment", "data_encipherment", "key_agreement",
         "encipher_only", "decipher_only"), False
    )  # fmt: skip
    of_signer = x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key())
    made = (
        x509.CertificateBuilder()
        .subject_name(call(name))
        .issuer_name(call("moiety trial authority"))
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(minutes=5))  # clocks differ
        .not_valid_after(now + datetime.timedelta(days=days))
        .add_extension(
            x509.BasicConstraints(ca=root, path_length=0 if root else None), critical=True
        )
        .add_extension(
            x509.KeyUsage(digital_signature=not root, key_cert_sign=root, crl_sign=root, **usage),
            critical=True,
        )
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        .add_extension(of_signer, critical=False)
    )
    if not root:
        named = [name_host(host) for host in dict.fromkeys(hosts)]
        made = made.add_extension(x509.SubjectAlternativeName(named), critical=False)
        made = made.add_extension(x509.ExtendedKeyUsage([x509.OID_SERVER_AUTH]), critical=False)
    return made.sign(signer, hashes.SHA256())


def name_host(host: str) -> Any:
    """Write a host as a certificate does: by its address or by its name.

    Raises:
        ValueError: for what is neither.
    """
    x509 = import_extra("cryptography.x509", PURPOSE, EXTRA)
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        if not re.fullmatch(HOST, host):
            raise ValueError(
                f"a host called {host!r}: say the name or the address under which nodes reach the "
                "server, without port"
            ) from None
        return x509.DNSName(host)


def make_node_keys(node: str) -> Mapping[str, bytes]:
    """Make the keys of a node."""
    forms = import_extra("cryptography.hazmat.primitives.serialization", PURPOSE, EXTRA)
    key = make_private_key()
    public = key.public_key().public_bytes(forms.Encoding.OpenSSH, forms.PublicFormat.OpenSSH)
    private = write_private(key, forms.PrivateFormat.OpenSSH)
    return {f"{node}.key": private, f"{node}.pub": public + b"\n"}


def make_private_key() -> Any:
    """Make a private key."""
    ec = import_extra("cryptography.hazmat.primitives.asymmetric.ec", PURPOSE, EXTRA)
    return ec.generate_private_key(ec.SECP384R1())


def write_private(key: Any, form: Any) -> bytes:
    """Write a private key as text of some form, without a password: it is for trials."""
    forms = import_extra("cryptography.hazmat.primitives.serialization", PURPOSE, EXTRA)
    return key.private_bytes(forms.Encoding.PEM, form, forms.NoEncryption())
