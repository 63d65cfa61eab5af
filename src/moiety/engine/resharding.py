"""Checkpoints of blocks: every rank writes its own, and any number of ranks reads them again."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch._C._distributed_c10d import HashStore
from torch.distributed.checkpoint.state_dict_loader import load as read
from torch.distributed.checkpoint.state_dict_saver import save as write
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import DTensor, Shard

from moiety.engine.partitioned import Shards

INDEX = "round.json"


def placed(shards: Shards) -> dict[str, Any]:
    """Say of every block where in the whole it lies; nothing is copied or sent."""
    mesh = init_device_mesh("cpu", (shards.ranks.size,))
    found: dict[str, Any] = {}
    for name, block in shards.params.items():
        dim, whole = shards.dim(name), shards.model.params[name]
        found[name] = (
            block
            if dim is None
            else DTensor.from_local(
                block, mesh, [Shard(dim)], run_check=False, shape=whole.shape, stride=whole.stride()
            )
        )
    return found


def lonely(shards: Shards) -> None:
    """Give a rank that is alone a group of its own, which the format asks for."""
    if shards.ranks.size == 1 and not dist.is_initialized():
        dist.init_process_group("gloo", store=HashStore(), rank=0, world_size=1)


def save(shards: Shards, folder: Path, mark: str) -> Path:
    """Write a checkpoint; it is there whole, with its index, or it does not count.

    Args:
        shards: our blocks.
        folder: of all checkpoints of a run; ranks must share it.
        mark: what run this belongs to.
    """
    lonely(shards)
    where = folder / f"{shards.round:08d}"
    part = folder / f".{where.name}.new"
    if shards.ranks.leads:
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)
    shards.ranks.gather(None)
    write(placed(shards), checkpoint_id=part)
    if shards.ranks.leads:
        (part / INDEX).write_text(json.dumps({"round": shards.round, "mark": mark}) + "\n")
        shutil.rmtree(where, ignore_errors=True)
        os.replace(part, where)  # noqa: PTH105 (at once, over what a kill left)
        for old in found(folder)[:-2]:
            shutil.rmtree(old)
    shards.ranks.gather(None)
    return where


def found(folder: Path) -> list[Path]:
    """List the checkpoints of a run, oldest first."""
    return sorted(path for path in folder.glob("[0-9]*") if (path / INDEX).exists())


def load(shards: Shards, folder: Path, mark: str) -> bool:
    """Read our blocks from the newest checkpoint, whatever number of ranks wrote it.

    Returns:
        Whether there was one.

    Raises:
        ValueError: if it belongs to another run.
    """
    lonely(shards)
    paths = shards.ranks.share(found(folder))
    if not paths:
        return False
    index = json.loads((paths[-1] / INDEX).read_text())
    if index["mark"] != mark:
        raise ValueError(
            f"{paths[-1]} belongs to another run ({index['mark']!r}, not {mark!r}); choose another "
            "folder, or start with the same settings"
        )
    for name, whole in shards.model.params.items():
        shards.params[name] = torch.empty(local_shape(shards, name, whole))
    read(placed(shards), checkpoint_id=paths[-1])
    shards.round = index["round"]
    return True


def local_shape(shards: Shards, name: str, whole: Tensor) -> list[int]:
    """Give the shape of our block."""
    dim = shards.dim(name)
    own = len(shards.block(name, shards.ranks.rank)) if dim is not None else 0
    return [own if d == dim else size for d, size in enumerate(whole.shape)]
