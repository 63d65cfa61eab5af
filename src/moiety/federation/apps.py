"""The node's app of Flower: it answers letters, and says its name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

from moiety.core.extras import import_extra
from moiety.federation.node import NodeConfig, read_node
from moiety.federation.packing import CONFIG, PURPOSE, pack_letter, unpack_letter
from moiety.federation.resident import answer_at_desk, hand_over
from moiety.federation.simulated import is_simulated, read_simulated

Answer: TypeAlias = Callable[[NodeConfig, bytes], bytes]
"""Answers a letter at a node."""


def make_client_app(answer_letter: Answer = hand_over) -> Any:
    """Make the app that a SuperNode runs; a benchmark answers letters badly."""
    flwr = import_extra("flwr.app", PURPOSE, "flower")
    app = import_extra("flwr.clientapp", PURPOSE, "flower").ClientApp()

    @app.train()
    def work(message: Any, context: Any) -> Any:
        letter, config = unpack_letter(message), context.node_config
        if is_simulated(config):  # many nodes in one process, which has torch already
            answer = answer_at_desk(read_simulated(config, context.run_config), letter)
        else:
            answer = answer_letter(read_node(config), letter)
        return flwr.Message(pack_letter(answer), reply_to=message)

    @app.query()
    def say_name(message: Any, context: Any) -> Any:
        config = context.node_config
        simulated = is_simulated(config)
        node = read_simulated(config, context.run_config) if simulated else read_node(config)
        record = flwr.ConfigRecord({"name": node.name})
        return flwr.Message(flwr.RecordDict({CONFIG: record}), reply_to=message)

    del work, say_name
    return app
