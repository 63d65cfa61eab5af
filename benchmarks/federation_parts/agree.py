"""The bytes of a deployment with TLS and authentication beside those of one machine."""

from __future__ import annotations

import hashlib
import shutil
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.federation_parts.deployment import (
    Deployment,
    find_flower,
    has_ended,
    wait_for,
    write_app,
)
from moiety.federation.certs import write_certificates
from moiety.recipes import RECIPES
from moiety.recipes.fields import override_fields
from moiety.run.group import start_group

METHODS: Mapping[str, str] = {
    "fedavg": "quickstart",
    "fedprox": "quickstart",
    "ddome": "quickstart",
    "ist": "ist-digits",
    "dmoe": "dmoe-breast",
    "mops": "mops",
}
"""Method -> the recipe in which it is played."""


def digest_model(folder: Path) -> str:
    """Give the digest of a run's final tensors."""
    return hashlib.sha256((folder / "final" / "model.safetensors").read_bytes()).hexdigest()[:16]


def play_serial(folder: Path, app: Path, method: str) -> str:
    """Play what an app says on one machine; give the digest."""
    plan = tomllib.loads((app / "plan.toml").read_text(encoding="utf8"))
    fields = {**plan["fields"], "engine": "serial", "methods": [method]}
    record = override_fields(RECIPES[plan["recipe"]].record, fields)
    folder.mkdir(parents=True, exist_ok=True)
    return digest_model(start_group(plan["recipe"], record, folder)[0])


def compare(
    folder: Path, methods: Sequence[str], names: Sequence[str], rounds: int
) -> dict[str, Any]:
    """Play methods one after the other on one deployment, and on one machine.

    Returns:
        Method -> the digests of both.
    """
    shutil.rmtree(folder, ignore_errors=True)
    write_certificates(folder / "keys", [], names, 2)
    link, found = Deployment(folder, find_flower(), folder / "keys"), {}
    try:
        link.start_link()
        for name in names:
            link.register(name)
        for method in methods:
            recipe = METHODS[method]
            open_data(link, names, RECIPES[recipe].record.data)
            app = folder / method
            words = ["--recipe", recipe, "--method", method, "--rounds", str(rounds)]
            run = write_app(app, names, *words)
            link.submit(app)
            wait_for(lambda run=run: has_ended(run), f"{method} ends")
            serial = play_serial(folder / f"{method}-serial", app, method)
            found[method] = {"flower": digest_model(run), "serial": serial}
    finally:
        link.close()
    return found


def simulate(folder: Path, method: str, names: Sequence[str], rounds: int) -> str:
    """Play a method in Flower's simulation, whose nodes are numbers in one process.

    Returns:
        The digest.
    """
    shutil.rmtree(folder, ignore_errors=True)
    link, app = Deployment(folder, find_flower(), simulated=len(names)), folder / "app"
    words = ["--recipe", METHODS[method], "--method", method, "--rounds", str(rounds)]
    run = write_app(app, names, *words)
    try:
        link.start_link()
        link.submit(app)
        wait_for(lambda: has_ended(run), f"{method} ends")
    finally:
        link.close()
    return digest_model(run)


def open_data(link: Deployment, names: Sequence[str], data: str) -> None:
    """Let nodes read some data: they are started again where they read others."""
    for name in names:
        if link.data.get(name) != data:
            if name in link.running:
                link.kill(name)
            link.data = {**link.data, name: data}
            link.start_node(name)
