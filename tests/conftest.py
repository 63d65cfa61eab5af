"""What all tests share: one thread each, and one word for those that need data files.

Two threads on a loaded machine can be far slower than one. A test that reads files of the folder
named by ``MOIETY_DATA`` carries ``@pytest.mark.needs_data``: without the variable it skips, and
``make test-data`` runs such tests alone.
"""

import multiprocessing
import os
import socket
import traceback
import warnings

import pytest
import torch

from moiety.engine.ranks import join_ranks, leave_ranks
from tests.waiting import LAST_S

torch.set_num_threads(1)


def pytest_configure(config):
    config.addinivalue_line("markers", "needs_data: reads files of the folder MOIETY_DATA names")


def pytest_collection_modifyitems(items):
    if os.environ.get("MOIETY_DATA"):
        return
    for item in items:
        if item.get_closest_marker("needs_data"):
            item.add_marker(pytest.mark.skip(reason="MOIETY_DATA is not set: no data files"))


@pytest.fixture
def undrawn(monkeypatch):
    """Leave the figures of a report empty, of which tests of runs look at none; it takes a second.

    Tests of reports, of the README and of the wheel draw them.
    """
    monkeypatch.setattr(
        "moiety.report.plots.write_svg", lambda figure, key, *told: f'<svg id="{key}"></svg>'
    )


def child(rank, size, port, told, job):
    os.environ.update(RANK=str(rank), WORLD_SIZE=str(size), LOCAL_RANK=str(rank))
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    torch.set_num_threads(1)
    try:
        ranks = join_ranks()
        told.put((rank, job(ranks)))
        leave_ranks(ranks)
    except BaseException:
        told.put((rank, [traceback.format_exc()]))


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
        found = dict(told.get(timeout=LAST_S) for _ in crew)
        for process in crew:
            process.join(LAST_S)
        return [found[rank] for rank in range(size)]

    return run
