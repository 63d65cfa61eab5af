"""One thread for every test: two threads on a loaded machine can be far slower than one."""

import multiprocessing
import os
import socket
import traceback
import warnings

import pytest
import torch

from moiety.engine.ranks import join_ranks, leave_ranks

torch.set_num_threads(1)


def child(rank, size, port, told, job):
    os.environ.update(RANK=str(rank), WORLD_SIZE=str(size), LOCAL_RANK=str(rank))
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    torch.set_num_threads(1)
    try:
        told.put((rank, job(join_ranks())))
    except BaseException:
        told.put((rank, [traceback.format_exc()]))
    finally:
        leave_ranks()


@pytest.fixture
def spawned():
    """Run a function of the ranks in processes of its own; what each gave, by rank."""

    def run(size, job):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        context = multiprocessing.get_context("fork")
        told = context.Queue()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            crew = [
                context.Process(target=child, args=(rank, size, port, told, job))
                for rank in range(size)
            ]
            for process in crew:
                process.start()
        found = dict(told.get(timeout=100) for _ in crew)
        for process in crew:
            process.join(20)
        return [found[rank] for rank in range(size)]

    return run
