"""The node's app of Flower: it answers letters, and says its name."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from moiety.core.extras import import_extra
from moiety.federation.packing import CONFIG, PURPOSE, pack_letter, unpack_letter

NODES = Path.home() / ".cache" / "moiety" / "nodes"
"""Where nodes keep their memory, unless their configuration names a folder."""


def read_node(config: Mapping[str, Any]) -> tuple[str, str, Path]:
    """Read a node's own configuration: ``name``, ``data`` and, if wished, ``folder``.

    Raises:
        ValueError: where it does not say its name or its data.

    >>> read_node({"name": "north", "data": "digits", "folder": "/tmp/north"})[0]
    'north'
    """
    lacks = [key for key in ("name", "data") if not config.get(key)]
    if lacks:
        raise ValueError(
            f"the node's configuration lacks {' and '.join(lacks)}; start it with "
            'flower-supernode --node-config \'name="north" data="digits"\''
        )
    name = str(config["name"])
    return name, str(config["data"]), Path(str(config.get("folder") or NODES / name))


def make_client_app() -> Any:
    """Make the app that a SuperNode runs."""
    flwr = import_extra("flwr.app", PURPOSE, "flower")
    app = import_extra("flwr.clientapp", PURPOSE, "flower").ClientApp()

    @app.train()
    def work(message: Any, context: Any) -> Any:
        from moiety.federation.desk import Desk  # torch: slow, and for jobs alone

        answer = Desk(*read_node(context.node_config)).answer(unpack_letter(message))
        return flwr.Message(pack_letter(answer), reply_to=message)

    @app.query()
    def say_name(message: Any, context: Any) -> Any:
        record = flwr.ConfigRecord({"name": read_node(context.node_config)[0]})
        return flwr.Message(flwr.RecordDict({CONFIG: record}), reply_to=message)

    del work, say_name
    return app
