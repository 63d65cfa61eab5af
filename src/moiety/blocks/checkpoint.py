"""Checkpoints of blocks: every rank writes its own, and any number of ranks reads them again.

Blocks are safetensors, written and read by ``torch.distributed.checkpoint``; nothing is unpickled.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch._C._distributed_c10d import HashStore
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.hf_storage import (
    HuggingFaceStorageReader,
    HuggingFaceStorageWriter,
)
from torch.distributed.checkpoint.state_dict_loader import load as read
from torch.distributed.checkpoint.state_dict_saver import save as write
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import DTensor, Shard

from moiety.blocks.peers import update_blocks
from moiety.blocks.shards import PARAMS, Shards
from moiety.core.checkpoints import (
    find_checkpoint,
    list_checkpoints,
    prune_checkpoints,
)
from moiety.core.errors import RunError, suggest_checkpoint
from moiety.core.files import (
    add_digest,
    digest_file,
    is_intact,
    json_to_bytes,
    read_json,
    write_bytes,
)
from moiety.core.solver import Solve
from moiety.core.types import Params
from moiety.engine.ranks import Ranks

INDEX, FORMAT = "round.json", 5
"""Safetensors, with digests of them and of the index; what was written before is refused."""


@contextmanager
def open_group(ranks: Ranks) -> Iterator[None]:
    """Give a rank that is alone a group of its own for a while, which the format asks for.

    Raises:
        RuntimeError: for what went wrong at any rank, which torch tells as no ``Exception``.
    """
    lonely = ranks.size == 1 and not dist.is_initialized()
    if lonely:
        dist.init_process_group("gloo", store=HashStore(), rank=0, world_size=1)
    try:
        yield
    except CheckpointException as error:
        causes = {str(cause) or type(cause).__name__: None for cause, _ in error.failures.values()}
        raise RuntimeError(f"a checkpoint failed: {'; '.join(causes)}") from error
    finally:
        if lonely:
            dist.destroy_process_group()


def place_block(block: Tensor, dim: int | None, size: int, ranks: Ranks) -> Any:
    """Say of a block where in the whole it lies; nothing is copied or sent.

    Args:
        block: ours.
        dim: along which tensors lie in blocks; None for one that is whole everywhere.
        size: of the whole along it.
        ranks: who holds the others.
    """
    if dim is None:
        return block
    mesh = init_device_mesh("cpu", (ranks.size,))
    whole = torch.empty([size if d == dim else n for d, n in enumerate(block.shape)], device="meta")
    where, shape, stride = [Shard(dim)], whole.shape, whole.stride()
    return DTensor.from_local(block, mesh, where, run_check=False, shape=shape, stride=stride)


def place_blocks(shards: Shards) -> dict[str, dict[str, Any]]:
    """Say of all our blocks where they lie, by section."""
    found: dict[str, dict[str, Any]] = {}
    for section, name, block in shards.tensors():
        dim, whole = shards.dim(name, block), shards.model.params[name].shape
        size = 0 if dim is None else whole[dim]
        found.setdefault(section, {})[name] = place_block(block, dim, size, shards.ranks)
    return found


def save_blocks(
    shards: Shards,
    folder: Path,
    fingerprint: str,
    *,
    last: int = 2,
    note: Mapping[str, Any] | None = None,
) -> Path:
    """Write a checkpoint; it is there whole, with its index, or it does not count.

    Args:
        shards: our blocks.
        folder: of all checkpoints of a run; ranks must share it.
        fingerprint: what run this belongs to.
        last: how many of the newest to keep, besides the one with the best ``score`` of its note.
        note: what else the index says: where the ledger stood, and how good the model was.
    """
    update_blocks(shards)
    where = folder / f"{shards.round:08d}"
    part = make_empty_folder(folder / f".{where.name}.new", shards.ranks)
    with open_group(shards.ranks):
        writer = HuggingFaceStorageWriter(str(part), save_distributed=True)
        write(place_blocks(shards), storage_writer=writer)
    shards.ranks.gather(None)  # all have written
    sums = digest_files(part, shards.ranks)
    if shards.ranks.leads:
        index = {
            "format": FORMAT,
            "round": shards.round,
            "fingerprint": fingerprint,
            "sha256": sums,
            **(note or {}),
        }
        write_bytes(part / INDEX, json_to_bytes(add_digest(index)))
        shutil.rmtree(where, ignore_errors=True)
        os.replace(part, where)  # noqa: PTH105 (at once, over what a kill left)
        prune_checkpoints(folder, last, read_block_score)
    shards.ranks.gather(None)
    return where


def digest_files(folder: Path, ranks: Ranks) -> dict[str, str]:
    """Sum up every file of blocks, each rank some of them."""
    paths = [path for path in folder.glob("*.safetensors") if path.is_file()]
    found = {path.name: digest_file(path) for path in sorted(paths)[ranks.rank :: ranks.size]}
    return {name: one for some in ranks.gather(found) for name, one in some.items()}


def make_empty_folder(folder: Path, ranks: Ranks) -> Path:
    """Make an empty folder for all ranks."""
    if ranks.leads:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
    ranks.gather(None)
    return folder


def write_whole(shards: Shards, fixed: Params, folder: Path) -> Path | None:
    """Write the whole as one file of safetensors, which no rank need hold for it.

    Args:
        shards: our blocks.
        fixed: what the model's form adds for use: of our units, or whole.
        folder: to work in; it is emptied first.

    Returns:
        The file, at rank 0; None at the others.
    """
    update_blocks(shards)
    ranks = shards.ranks
    make_empty_folder(folder, ranks)
    with open_group(ranks):
        sent = place_blocks(shards)[PARAMS]
        for name, block in fixed.items():
            dim = shards.form.dim(name)
            size = 0 if dim is None else sum(ranks.gather(block.shape[dim]))
            sent[name] = place_block(block, dim, size, ranks)
        writer = HuggingFaceStorageWriter(
            str(folder), save_distributed=True, enable_consolidation=True
        )
        write(sent, storage_writer=writer)
    ranks.gather(None)
    return next(iter(folder.glob("*.safetensors"))) if ranks.leads else None


def read_index(where: Path) -> dict[str, Any]:
    """Read what is said of a checkpoint.

    Raises:
        ValueError: if it cannot be read, is of another format, or was changed.
    """
    try:
        index = read_json(where / INDEX)
    except RunError as error:
        raise ValueError(f"{where} is damaged: {error}; {suggest_remedy(where)}") from error
    found = index.get("format", 1) if isinstance(index, dict) else None
    if found != FORMAT:
        raise ValueError(
            f"{where} has format {found!r}, this version reads {FORMAT}; go on "
            "with the version of moiety that wrote it, or start the run anew"
        )
    kinds = {"round": int, "fingerprint": str, "sha256": dict}
    known = all(isinstance(index.get(name), kind) for name, kind in kinds.items())
    if not known or not is_intact(index):
        raise ValueError(f"{where} is damaged: {INDEX} was changed; {suggest_remedy(where)}")
    return index


def suggest_remedy(where: Path) -> str:
    """Say what to do without a checkpoint."""
    return suggest_checkpoint(
        [int(path.name) for path in list_checkpoints(where.parent) if path != where]
    )


def read_block_score(where: Path) -> float | None:
    """Read the score of a checkpoint; None where it has none or is damaged."""
    try:
        return read_index(where).get("score")
    except (OSError, ValueError):
        return None


def verify_blocks(where: Path, fingerprint: str, ranks: Ranks) -> dict[str, Any]:
    """Give what is said of a checkpoint that can be read, whole, and of this run.

    Raises:
        ValueError: for one that is not.
    """
    index = read_index(where)
    if index["fingerprint"] != fingerprint:
        raise ValueError(
            f"{where} belongs to another run ({index['fingerprint']!r}, not {fingerprint!r}); "
            "choose another folder, or start with the same settings"
        )
    now, then = digest_files(where, ranks), index["sha256"]
    wrong = sorted(name for name in {*now, *then} if now.get(name) != then.get(name))
    if wrong:
        raise ValueError(
            f"{where} is damaged: {', '.join(wrong)} lost, cut short, changed or added; "
            f"{suggest_remedy(where)}"
        )
    return index


def load_blocks(
    shards: Shards,
    folder: Path,
    fingerprint: str,
    solve: Solve | None = None,
    at: int | None = None,
) -> dict[str, Any] | None:
    """Read our blocks from a checkpoint, whatever number of ranks wrote it.

    Args:
        shards: gets them.
        folder: of all checkpoints of a run.
        fingerprint: what run they must belong to.
        solve: brings the optimiser's memory, where it travels.
        at: the checkpoint of this round instead of the newest.

    Returns:
        What its index says; None where there is no checkpoint.

    Raises:
        RunError: if there is none of that round.
        ValueError: if it belongs to another run or to another version, or is damaged.
    """
    paths = shards.ranks.broadcast(list_checkpoints(folder))
    where = find_checkpoint(folder, paths, at)
    if where is None:
        return None
    index = verify_blocks(where, fingerprint, shards.ranks)
    for name in shards.model.params:
        shards.params[name] = torch.empty(shards.shape(name))
    shards.open_optimizer_state(solve)
    with open_group(shards.ranks):
        read(place_blocks(shards), storage_reader=HuggingFaceStorageReader(str(where)))
    shards.round, shards.passed = index["round"], None
    return index
