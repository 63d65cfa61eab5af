"""A ready app of Flower in a folder: two lines of Python, and the plan of the run."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from moiety.core.errors import RunError
from moiety.core.files import holds_anything, replace_file

PROJECT = """[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"

[project]
name = "{name}"
version = "1.0.0"
description = "A run of moiety whose workers are nodes of Flower."
license = "Apache-2.0"
dependencies = ["flwr>=1.42"]

[tool.hatch.build.targets.wheel]
packages = ["."]

[tool.flwr.app]
publisher = "moiety"
# What nodes are sent; plan and run stay at the server. Each pattern must match a file.
fab-include = ["/server_app.py", "/client_app.py"]

[tool.flwr.app.components]
serverapp = "server_app:app"
clientapp = "client_app:app"

[tool.flwr.app.config]
plan = {plan}
"""

SERVER = '''"""The server's app."""

from moiety.run.federate import make_server_app

app = make_server_app()
'''

CLIENT = '''"""The app of a node."""

from moiety.federation.apps import make_client_app

app = make_client_app()
'''

PLAN = """# What is played: a recipe of moiety, and who takes part. Only the server reads this.
recipe = {recipe}
# The names of the nodes, in the order of the recipe's workers; a node says its name itself:
# flower-supernode --node-config 'name="{first}" data={data}{rows_said}' ...
workers = {workers}
# shared: nodes train on rows of the recipe's data; own: each on a file that it alone has, beside a
# sample that all have, which is the recipe's data: of it are encoding, scale, classes and tests.
rows = "{rows}"
# Ledger, checkpoints and final model. A server that is started again goes on from there.
folder = {folder}

# Fields of the recipe, as in a file of moiety run --config.
[fields]
methods = [{method}]
seeds = 1
rounds = {rounds}
{more}population = {population}
participation = {{ size = {count}, anchors = -1 }}

# A round ends when all have answered; or when a share of them has (quorum) and, since it began,
# patience times the seconds have passed within which nine of ten jobs were done (but least_s); or
# after most_s.
[waiting]
quorum = 0.5
patience = 2.0
least_s = 5.0
most_s = 600.0
join_s = 120.0
poll_s = 0.5
"""


@dataclass(frozen=True)
class AppPlan:
    """What an app plays.

    Args:
        recipe: its name.
        method: that is played.
        workers: names of the nodes.
        rounds: to play.
        data: of the recipe.
        anchors: of the recipe, at most.
        fields: of the recipe besides, by name.
        own: whether nodes train on rows that they alone have.
    """

    recipe: str
    method: str
    workers: Sequence[str]
    rounds: int
    data: str
    anchors: int
    fields: Mapping[str, str]
    own: bool = False


def write_app(folder: Path, app: AppPlan) -> list[Path]:
    """Write an app.

    Args:
        folder: to write to; must be new or empty.
        app: what it plays.

    Returns:
        The files.

    Raises:
        RunError: if there is something in the folder already.
    """
    folder = folder.absolute()
    if holds_anything(folder):
        raise RunError(f"{folder} is not empty; name a folder that is new")
    folder.mkdir(parents=True, exist_ok=True)
    name = "".join(c if c.isalnum() else "-" for c in folder.name.lower()).strip("-") or "app"
    files = {
        "pyproject.toml": PROJECT.format(name=name, plan=json.dumps(str(folder / "plan.toml"))),
        "server_app.py": SERVER,
        "client_app.py": CLIENT,
        "plan.toml": write_plan(folder, app),
    }
    for file, text in files.items():
        replace_file(folder / file, text.encode())
    return [folder / file for file in files]


def write_plan(folder: Path, app: AppPlan) -> str:
    """Write the plan of an app."""
    count = len(app.workers)
    population = f"{{ workers = {count}, anchors = {min(app.anchors, count)} }}"
    if app.own:
        population = (
            f'{{ scheme = "all", workers = {count}, unseen = 0, anchors = 0, shared_test = true }}'
        )
    return PLAN.format(
        recipe=json.dumps(app.recipe),
        first=app.workers[0],
        data=json.dumps(app.data),
        rows_said=' rows="FILE"' if app.own else "",
        workers=json.dumps(list(app.workers)),
        rows="own" if app.own else "shared",
        folder=json.dumps(str(folder / "run")),
        method=json.dumps(app.method),
        rounds=app.rounds,
        more="".join(f"{key} = {json.dumps(value)}\n" for key, value in app.fields.items()),
        population=population,
        count=count,
    )
