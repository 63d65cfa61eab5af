"""The app of nodes of which some are hostile: they answer with what must not be merged."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from moiety.federation.apps import make_client_app
from moiety.federation.node import NodeConfig
from moiety.federation.resident import hand_over

HOSTILE = "MOIETY_HOSTILE_NODE"
"""Set in the environment of a node that is hostile."""

CLIENT = '''"""The app of a node, which may be hostile."""

from benchmarks.federation_parts.hostile import make_app

app = make_app()
'''


def make_app() -> Any:
    """Make the app of a node."""
    return make_client_app(answer_badly if os.environ.get(HOSTILE) else hand_over)


def answer_badly(node: NodeConfig, letter: bytes) -> bytes:
    """Answer with something else in each round: NaN, huge values, wrong shapes, the wrong part."""
    del node
    import torch

    from moiety.core.axes import Part
    from moiety.core.state import Reply, Share
    from moiety.engine.letters import read_job, write_reply

    job, _ = read_job(letter, lambda _note, _round: {})
    kinds: Mapping[str, Callable[[], Reply]] = {
        "nan": lambda: spoil(lambda t: torch.full_like(t, float("nan"))),
        "huge": lambda: spoil(lambda t: torch.full_like(t, 1e30)),
        "shapes": lambda: spoil(lambda t: torch.cat([t, t])),
        "part": lambda: replace(spoil(lambda t: t), share=Share(Part({"h1": torch.tensor([0])}))),
    }

    def spoil(how: Callable[[Any], Any]) -> Reply:
        return Reply(job.worker, job.share, {name: how(t) for name, t in job.piece.items()})

    return write_reply(list(kinds.values())[job.round % len(kinds)]())
