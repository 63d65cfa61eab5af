"""A channel between two processes of our own that carries tensors as plain bytes.

No shared file handles: they run out with many tensors. A large tensor that the last message in
the same direction had as well is not sent again, so that a model which goes to every worker of a
round crosses to each process once.
"""

from __future__ import annotations

import io
import pickle
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from typing import Any

import torch
from torch import Tensor

from moiety.core.transfers import Transfers

LARGE = 1 << 14
"""Bytes from which a tensor travels on its own, uncopied, rather than within the pickle."""


@dataclass
class Channel:
    """One end of a channel.

    Args:
        end: the connection.
        sent: id -> tensor and its version, of the large tensors of the last message sent.
        received: the same tensors by the other end's ids, of the last message received.
        transfers: counts what passes here in both directions, and how long that takes.
    """

    end: Connection
    sent: dict[int, tuple[Tensor, int]] = field(default_factory=dict)
    received: dict[int, Tensor] = field(default_factory=dict)
    transfers: Transfers = field(default_factory=Transfers)

    def send(self, value: Any) -> None:
        """Send a value."""
        begun = time.perf_counter()
        held: dict[int, tuple[Tensor, int]] = {}
        fresh: dict[int, Tensor] = {}

        def identify(item: Any) -> int | None:
            if not isinstance(item, Tensor) or item.numel() * item.element_size() < LARGE:
                return None
            key, now = id(item), count_changes(item)
            if key not in held:
                held[key] = item, now
                before = self.sent.get(key)
                if before is None or before[0] is not item or before[1] != now:
                    fresh[key] = item
            return key

        out = io.BytesIO()
        pickler = pickle.Pickler(out, protocol=5)
        pickler.dispatch_table = {Tensor: reduce_tensor}
        pickler.persistent_id = identify
        pickler.dump(value)
        forms = [(key, item.dtype, item.shape) for key, item in fresh.items()]
        message = pickle.dumps((out.getvalue(), forms))
        self.end.send_bytes(message)
        for item in fresh.values():
            self.end.send_bytes(view_bytes(item))
        self.sent = held
        self.count_passed(begun, len(message), fresh.values())

    def recv(self) -> Any:
        """Wait for a value."""
        message, begun = self.end.recv_bytes(), time.perf_counter()
        body, forms = pickle.loads(message)
        known = self.received
        for key, dtype, shape in forms:
            space = torch.empty(shape, dtype=dtype)
            self.end.recv_bytes_into(view_bytes(space))
            known[key] = space
        held: dict[int, Tensor] = {}

        def recall(key: int) -> Tensor:
            held[key] = known[key]
            return held[key]

        unpickler = pickle.Unpickler(io.BytesIO(body))
        unpickler.persistent_load = recall
        value = unpickler.load()
        self.received = held
        self.count_passed(begun, len(message), [known[key] for key, _, _ in forms])
        return value

    def count_passed(self, begun: float, size: int, tensors: Iterable[Tensor]) -> None:
        """Count a message of some bytes and the tensors that went with it."""
        self.transfers.sent_bytes += size + sum(t.numel() * t.element_size() for t in tensors)
        self.transfers.send_s += time.perf_counter() - begun

    def close(self) -> None:
        """Close this end."""
        self.end.close()


def count_changes(tensor: Tensor) -> int:
    """Count the changes made to a tensor in place; ours are values, but a user's may not be."""
    return 0 if tensor.is_inference() else tensor._version  # noqa: SLF001


def view_bytes(tensor: Tensor) -> Any:
    """View the bytes of a tensor; those of a contiguous one on the CPU are its own."""
    plain = tensor.detach().cpu().resolve_conj().resolve_neg().contiguous()
    # A dim of length 1 may have any stride and still count as contiguous.
    return plain.as_strided((plain.numel(),), (1,)).view(torch.uint8).numpy()


def reduce_tensor(tensor: Tensor) -> tuple[Any, tuple[Any, torch.dtype, torch.Size]]:
    """Reduce a small tensor to its bytes."""
    return rebuild_tensor, (view_bytes(tensor), tensor.dtype, tensor.shape)


def rebuild_tensor(flat: Any, dtype: torch.dtype, shape: torch.Size) -> Tensor:
    """Rebuild a tensor from its bytes."""
    return torch.from_numpy(flat).view(dtype).reshape(shape)
