"""Addresses: the same wherever asked, different wherever anything differs."""

import numpy as np
import torch

from moiety.core.streams import address, stream


def test_addresses_do_not_collide_over_their_parts():
    found = {
        address(s, r, w, p) for s in range(5) for r in range(20) for w in range(20) for p in "ab"
    }
    assert len(found) == 5 * 20 * 20 * 2
    assert address(0, 1, 23) != address(0, 12, 3)
    assert address(0, "1") != address(0, 1)
    assert all(0 <= number < 2**63 for number in found)


def test_any_integer_addresses_alike():
    plain = address(3, 7, "plan")
    assert address(np.int64(3), np.int32(7), "plan") == plain
    assert address(torch.tensor(3), torch.tensor(7), "plan") == plain


def test_order_of_asking_does_not_matter():
    first = [torch.rand(3, generator=stream(1, worker)) for worker in (0, 1, 2)]
    second = [torch.rand(3, generator=stream(1, worker)) for worker in (2, 1, 0)][::-1]
    for a, b in zip(first, second, strict=True):
        assert torch.equal(a, b)
    assert not torch.equal(first[0], first[1])
