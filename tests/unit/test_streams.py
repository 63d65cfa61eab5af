"""Addresses: the same wherever asked, different wherever anything differs."""

import numpy as np
import torch

from moiety.core.streams import hash_address, stream


def test_addresses_do_not_collide_over_their_parts():
    found = {
        hash_address(s, r, w, p)
        for s in range(5)
        for r in range(20)
        for w in range(20)
        for p in "ab"
    }
    assert len(found) == 5 * 20 * 20 * 2
    assert hash_address(0, 1, 23) != hash_address(0, 12, 3)
    assert hash_address(0, "1") != hash_address(0, 1)
    assert all(0 <= number < 2**63 for number in found)


def test_any_integer_addresses_alike():
    plain = hash_address(3, 7, "plan")
    assert hash_address(np.int64(3), np.int32(7), "plan") == plain
    assert hash_address(torch.tensor(3), torch.tensor(7), "plan") == plain


def test_order_of_asking_does_not_matter():
    first = [torch.rand(3, generator=stream(1, worker)) for worker in (0, 1, 2)]
    second = [torch.rand(3, generator=stream(1, worker)) for worker in (2, 1, 0)][::-1]
    for a, b in zip(first, second, strict=True):
        assert torch.equal(a, b)
    assert not torch.equal(first[0], first[1])
