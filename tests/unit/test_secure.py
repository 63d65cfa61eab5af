"""Secure sums: cells, shares, masks that cancel, and workers that are lost on the way."""

import itertools

import pytest
import torch

from moiety.core.axes import Along, Part, take_piece
from moiety.core.streams import stream
from moiety.secure.cells import find_cells, lay_out
from moiety.secure.keys import close_box, draw_key, draw_mask, open_box
from moiety.secure.opening import count_exchange, sum_masks
from moiety.secure.ring import HALF, Scale, wrap
from moiety.secure.session import Secrets, Session, mask_vectors, share_secrets, tell_shares
from moiety.secure.shamir import invert, join_secret, multiply, split_secret

AXES = {"a": ("h", None), "b": (None, Along("h", block=2)), "c": ("h", "g"), "d": (None,)}
WHOLE = {
    "a": torch.zeros(4, 3), "b": torch.zeros(2, 8), "c": torch.zeros(4, 5), "d": torch.zeros(3),
}  # fmt: skip
HELD = {
    3: Part({"h": torch.tensor([0, 1])}),
    5: Part({"h": torch.tensor([0, 1, 2]), "g": torch.tensor([2, 4])}),
    8: Part(names=("a", "d")),
    9: Part(),
}


def count_holders(parts):
    """Who holds what, the slow way: the positions of every piece."""
    place = {n: torch.arange(t.numel()).view_as(t) for n, t in WHOLE.items()}
    found: dict = {}
    for worker, part in parts.items():
        for name, piece in take_piece(place, AXES, part).items():
            for position in piece.flatten().tolist():
                found.setdefault((name, position), []).append(worker)
    return {where: tuple(sorted(some)) for where, some in found.items()}


def test_a_cell_is_all_that_the_same_workers_hold():
    cells = find_cells(WHOLE, AXES, HELD)
    slow = count_holders(HELD)
    assert len(set(cells.holders)) == len(cells.holders)
    for name, tensor in WHOLE.items():
        flat = cells.of[name].expand(tensor.shape).flatten().tolist()
        for position, cell in enumerate(flat):
            assert cells.holders[cell] == slow.get((name, position), ())


def test_all_holders_of_a_cell_lay_it_out_alike():
    """A vector of the place of each entry is the same with all of them, and comes back."""
    cells, count = find_cells(WHOLE, AXES, HELD), 0
    place = {}
    for name, tensor in WHOLE.items():
        place[name] = torch.arange(count, count + tensor.numel()).view_as(tensor)
        count += tensor.numel()
    seen: dict = {}
    for worker, part in HELD.items():
        layout = lay_out(cells, WHOLE, AXES, part)
        piece = take_piece(place, AXES, part)
        flat = torch.cat([piece[name].flatten() for name in sorted(piece)])
        vectors = layout.cut(flat)
        assert torch.equal(layout.join(vectors, torch.zeros_like(flat)), flat)
        for cell, vector in vectors.items():
            assert worker in cells.holders[cell]
            assert torch.equal(seen.setdefault(cell, vector), vector)
    assert sorted(torch.cat([*seen.values()]).tolist()) == list(range(count))


def test_the_field_has_inverses_and_distributes():
    every = torch.arange(256, dtype=torch.uint8).numpy()
    for factor in (1, 2, 3, 0x53, 255):
        assert multiply(multiply(every, factor), invert(factor)).tolist() == every.tolist()
        assert (multiply(every, factor) ^ multiply(every, 7)).tolist() == multiply(
            every, factor ^ 7
        ).tolist()


def test_any_so_many_shares_tell_a_secret_and_fewer_tell_nothing():
    """With one share less every secret is as likely: some share at a free place makes it any."""
    shares = split_secret(b"\x00secret\xff", [1, 2, 5, 255], 3)
    for some in itertools.combinations(shares, 3):
        assert join_secret({place: shares[place] for place in some}) == b"\x00secret\xff"
    for some in itertools.combinations(shares, 2):
        assert join_secret({place: shares[place] for place in some}) != b"\x00secret\xff"
    two = {place: shares[place][:1] for place in (1, 2)}
    assert {join_secret({**two, 7: bytes([byte])}) for byte in range(256)} == {
        bytes([byte]) for byte in range(256)
    }
    with pytest.raises(ValueError, match="choose places"):
        split_secret(b"x", [1, 1], 1)


def test_a_box_is_for_one_and_for_one_use():
    key = draw_key()
    box = close_box(key, b"share", b"from 1 to 2")
    assert open_box(key, box, b"from 1 to 2") == b"share"
    for other in ((key, box, b"from 1 to 3"), (draw_key(), box, b"from 1 to 2"),
                  (key, box[:-1], b"from 1 to 2"), (key, b"", b"from 1 to 2")):  # fmt: skip
        with pytest.raises(ValueError, match="a box was changed"):
            open_box(*other)


def test_a_sum_never_leaves_the_ring():
    """Not the largest, of all workers with the largest weight; and the bound of the mean holds."""
    for weight, terms in ((1, 1), (1, 7), (100, 255)):
        scale = Scale(8.0, weight, terms)
        top = scale.write(torch.tensor([8.0, -8.0]), weight).long() * terms
        assert (top.abs() < HALF).all()
        values = torch.rand(terms, 50, generator=stream(1)) * 16 - 8
        weights = torch.randint(1, weight + 1, (terms,), generator=stream(2))
        pairs = zip(values, weights.tolist(), strict=True)
        total = torch.stack([scale.write(one, w).long() for one, w in pairs]).sum(0)
        mean = (values.double() * weights[:, None]).sum(0) / weights.sum()
        off = (scale.read(total, int(weights.sum())) - mean).abs()
        assert (off <= scale.step / 2 / weights.double().mean()).all()
    for bad in (torch.tensor([8.1]), torch.tensor([float("nan")])):
        with pytest.raises(ValueError, match="not finite or beyond 8"):
            scale.write(bad, 1)


def play_sum(holders, least, lost_after_keys=(), lost_after_boxes=(), lost_at_last=()):
    """Play one sum; the vectors, the opened sums of those that came, and the bytes by worker."""
    workers = sorted({worker for held in holders for worker in held})
    secrets = {worker: Secrets(worker) for worker in workers}
    session = Session(b"run 0", holders, least, {w: secrets[w].tell_keys() for w in workers})
    down, up = dict.fromkeys(workers, 64 * len(workers)), dict.fromkeys(workers, 64)
    boxes: dict = {w: {} for w in workers}
    for worker in workers:
        if worker not in lost_after_keys:
            secrets[worker], sent = share_secrets(secrets[worker], session)
            up[worker] += sum(map(len, sent.values()))
            for other, box in sent.items():
                boxes[other][worker] = box
                down[other] += len(box)
    sizes = {cell: 3 + cell for cell in range(len(holders))}
    vectors = {
        w: {
            cell: torch.randint(-99, 99, (sizes[cell],), generator=stream(0, w, cell))
            for cell in session.list_seeds(w)
        }
        for w in workers
    }
    here = [w for w in workers if w not in (*lost_after_keys, *lost_after_boxes)]
    masked = {w: mask_vectors(secrets[w], session, boxes[w].keys(), vectors[w]) for w in here}
    told = {
        w: tell_shares(secrets[w], session, boxes[w], here) for w in here if w not in lost_at_last
    }
    for worker, some in told.items():
        up[worker] += sum(map(len, some.values()))
    left = sum_masks(session, here, told, sizes)
    found = {
        cell: wrap(sum(masked[w][cell].long() for w in here if cell in masked[w]) - mask)
        for cell, mask in left.items()
    }
    return vectors, masked, found, (down, up)


LOST = {
    "nobody": {},
    "before boxes": {"lost_after_keys": (2,)},
    "before vectors": {"lost_after_boxes": (1, 4)},
    "before shares": {"lost_at_last": (3,)},
    "all along": {"lost_after_keys": (2,), "lost_after_boxes": (1,), "lost_at_last": (5,)},
}


@pytest.mark.parametrize("lost", LOST.values(), ids=LOST)
def test_the_sum_of_those_who_came_is_opened_and_nothing_else(lost):
    """Bit for bit; and cells that fewer than t of them hold stay shut."""
    holders = ((0, 1, 2, 3, 4, 5), (0, 3, 5), (0, 1, 2, 4), (4, 5), ())
    vectors, masked, found, (down, up) = play_sum(holders, 3, **lost)
    for cell, held in enumerate(holders):
        here = [w for w in held if w in masked]
        assert (cell in found) == (len(here) >= 3)
        if cell in found:
            assert torch.equal(found[cell], torch.stack([vectors[w][cell] for w in here]).sum(0))
    if not lost:
        counted = {w: count_exchange(holders, range(6), w, 3) for w in range(6)}
        assert counted == {w: (down[w], up[w]) for w in range(6)}
    for worker, some in masked.items():
        for cell, vector in some.items():
            assert not torch.equal(vector.long(), vectors[worker][cell])


def test_a_mask_is_spread_over_the_whole_ring():
    """So a masked number is any number: means and halves are those of even draws."""
    mask = draw_mask(bytes(32), 40_000)
    assert abs(float(mask.double().mean())) < 5 * HALF / 3**0.5 / 200
    assert mask.min() < -0.99 * HALF
    assert mask.max() > 0.99 * HALF
    assert torch.equal(draw_mask(bytes(32), 3), mask[:3])


def test_too_few_open_nothing():
    with pytest.raises(ValueError, match="a sum of fewer than 3 is not opened"):
        play_sum(((0, 1, 2, 3),), 3, lost_after_boxes=(0, 1))
    with pytest.raises(ValueError, match="2 workers told their shares, and 3 are needed"):
        play_sum(((0, 1, 2, 3),), 3, lost_at_last=(0, 1))
    with pytest.raises(ValueError, match="2 workers take part in a sum of at least 3"):
        play_sum(((0, 1),), 3)


def test_nobody_tells_both_secrets_of_a_worker():
    """A share tells of a worker the masks of its own or the key of the others, by who came."""
    holders = ((0, 1, 2, 3),)
    secrets = {w: Secrets(w) for w in range(4)}
    session = Session(b"x", holders, 2, {w: secrets[w].tell_keys() for w in range(4)})
    drawn, boxes = share_secrets(secrets[1], session)
    others = {w: share_secrets(secrets[w], session)[1][0] for w in (0, 2, 3)}
    told = tell_shares(secrets[0], session, {**others, 1: boxes[0]}, [0, 2, 3])
    kept = tell_shares(secrets[0], session, {**others, 1: boxes[0]}, [0, 1, 2])
    assert len(told[1]) == len(kept[1]) == 32
    assert told[1] != kept[1]
    assert drawn.masks.hex() not in repr(drawn)
