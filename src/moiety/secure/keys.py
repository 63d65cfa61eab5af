"""Keys that two workers agree on, boxes that one alone can open, and masks drawn from a key.

X25519 (RFC 7748) with HKDF (RFC 5869), ChaCha20-Poly1305 and ChaCha20 (RFC 8439), all of the
library ``cryptography``. Nothing here is drawn from an address: a key is nobody else's to know.
"""

from __future__ import annotations

import secrets
from typing import Any

import numpy as np
import torch
from torch import Tensor

from moiety.core.extras import import_extra

KEY, NONCE, TAG = 32, 12, 16
"""Bytes of a key, of the nonce of a box, and of what a box says of its own wholeness."""

BOX = NONCE + TAG
"""Bytes that a box is longer than what lies in it."""

PURPOSE, PRIMITIVES = "a secure sum", "cryptography.hazmat.primitives"


def import_primitive(module: str) -> Any:
    """Import a module of ``cryptography``."""
    return import_extra(f"{PRIMITIVES}.{module}", PURPOSE, "flower")


def draw_key() -> bytes:
    """Draw a key: a private one, or that of a mask."""
    return secrets.token_bytes(KEY)


def make_public_key(private: bytes) -> bytes:
    """Give the public key of a private one."""
    x25519 = import_primitive("asymmetric.x25519")
    return x25519.X25519PrivateKey.from_private_bytes(private).public_key().public_bytes_raw()


def agree_on_key(private: bytes, public: bytes, about: bytes) -> bytes:
    """Agree on a key with the owner of a public key, who finds the same one.

    Args:
        private: of one.
        public: of the other.
        about: what the key is for; another key for anything else.

    Raises:
        ValueError: for a public key that is none.
    """
    x25519 = import_primitive("asymmetric.x25519")
    one = x25519.X25519PrivateKey.from_private_bytes(private)
    common = one.exchange(x25519.X25519PublicKey.from_public_bytes(public))
    sha256 = import_primitive("hashes").SHA256()
    return import_primitive("kdf.hkdf").HKDF(sha256, KEY, salt=None, info=about).derive(common)


def close_box(key: bytes, content: bytes, about: bytes) -> bytes:
    """Encrypt and authenticate."""
    nonce = secrets.token_bytes(NONCE)
    return nonce + import_primitive("ciphers.aead").ChaCha20Poly1305(key).encrypt(
        nonce, content, about
    )


def open_box(key: bytes, box: bytes, about: bytes) -> bytes:
    """Open a box.

    Raises:
        ValueError: for one that was closed with another key, is of something else, or was changed.
    """
    aead = import_primitive("ciphers.aead").ChaCha20Poly1305(key)
    try:
        return aead.decrypt(box[:NONCE], box[NONCE:], about)
    except Exception as error:  # InvalidTag, or bytes that are too short to be a box
        raise ValueError("a box was changed on its way, or is not for this worker") from error


def draw_mask(key: bytes, size: int) -> Tensor:
    """Draw a mask: numbers of the whole ring, int64, [size]; of one key always the same ones."""
    ciphers = import_primitive("ciphers")
    cipher = ciphers.Cipher(ciphers.algorithms.ChaCha20(key, bytes(16)), mode=None)
    drawn = np.frombuffer(cipher.encryptor().update(bytes(4 * size)), "<i4")
    return torch.from_numpy(drawn.astype(np.int64))
