"""Flower's simulation on the same work: ``python -m benchmarks.peers.flower ROUNDS ACTORS``."""

from __future__ import annotations

import logging
import sys
import time
from itertools import pairwise

import torch
from flwr.app import ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import FedAvg
from flwr.simulation import run_simulation

from benchmarks.peers.shelf import BATCH, CHOSEN, LR, network, rows, tell
from benchmarks.plain import train

logging.getLogger("flwr").setLevel(logging.ERROR)
client, server = ClientApp(), ServerApp()
ROUNDS = int(sys.argv[1]) if len(sys.argv) > 1 and sys.argv[1].isdigit() else 1


@client.train()
def fit(message: Message, context: Context) -> Message:
    """Make one epoch over a worker's rows."""
    torch.set_num_threads(1)
    net = network()
    net.load_state_dict(message.content["arrays"].to_torch_state_dict())
    index = rows()["index"][int(context.node_config["partition-id"])]
    train(net, rows(), index, batch=BATCH, lr=LR)
    content = {
        "arrays": ArrayRecord(net.state_dict()),
        "metrics": MetricRecord({"num-examples": len(index)}),
    }
    return Message(content=RecordDict(content), reply_to=message)


@server.main()
def serve(grid: Grid, context: Context) -> None:
    """Play rounds of federated averaging, and note when each is over."""
    del context
    marks: list[float] = []
    strategy = FedAvg(
        fraction_train=CHOSEN / 100,
        fraction_evaluate=0.0,
        min_train_nodes=CHOSEN,
        min_available_nodes=100,
    )
    strategy.start(
        grid=grid,
        initial_arrays=ArrayRecord(network().state_dict()),
        num_rounds=ROUNDS + 1,
        evaluate_fn=lambda _round, _arrays: marks.append(time.perf_counter()),
    )
    # The first round starts the actors; it does not count.
    tell([after - before for before, after in pairwise(marks[1:])])


if __name__ == "__main__":
    actors = int(sys.argv[2])
    resources = {"num_cpus": 1, "num_gpus": 0.0}
    run_simulation(
        server_app=server,
        client_app=client,
        num_supernodes=100,
        backend_config={"client_resources": resources, "init_args": {"num_cpus": actors}},
    )
