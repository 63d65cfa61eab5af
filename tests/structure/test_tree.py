"""Rules on the tree: lengths, registration, what an import brings."""

import ast
import importlib.util
import json
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

import moiety
from moiety.methods import METHODS

ROOT = Path(moiety.__file__).parent
MODULES = sorted(path.relative_to(ROOT).as_posix() for path in ROOT.rglob("*.py"))
EXTRAS = (
    "sklearn", "pyarrow", "PIL", "matplotlib", "jinja2", "tensorboardX", "optuna", "tyro", "scipy",
    "pandas", "flwr", "joblib", "transformers", "peft", "mlflow", "wandb", "torchmetrics",
    "onnx", "onnxscript", "cryptography", "dp_accounting", "opacus",
)  # fmt: skip
ROOMS = {
    "blocks", "core", "data", "engine", "estimators", "federation", "merge", "methods", "mixtures",
    "models", "ops", "plan", "privacy", "prompts", "recipes", "report", "rounds", "run", "secure",
    "serve", "server", "solve", "split", "tasks", "wire",
}  # fmt: skip
NOT_BROUGHT = [["estimators"], ["plan"], ["report"]]


def test_there_is_a_tree():
    """A new room is a decision: it gets its line in docs/design.md, and stands here."""
    assert {"core/axes.py", "rounds/synchronous.py", "methods/ddome.py"} <= set(MODULES)
    assert {name.split("/")[0] for name in MODULES if "/" in name} == ROOMS


def list_lines(node: ast.stmt) -> range:
    """List the lines of a statement."""
    return range(node.lineno, (node.end_lineno or node.lineno) + 1)


def length(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Count the lines of a function, its docstring apart."""
    lines = len(list_lines(node))
    if ast.get_docstring(node) is not None:
        lines -= len(list_lines(node.body[0]))
    return lines


@pytest.mark.parametrize("name", MODULES)
def test_lengths(name):
    """No module over 300 lines, no function over 40."""
    text = (ROOT / name).read_text(encoding="utf8")
    assert len(text.splitlines()) <= 300
    long = [
        f"{node.name}: {length(node)} lines"
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and length(node) > 40
    ]
    assert not long


def defined(path: Path) -> set[str]:
    """Name the functions and classes of a module."""
    tree = ast.parse(path.read_text(encoding="utf8"))
    return {
        node.name
        for node in tree.body
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
    }


def test_a_public_name_stands_in_one_module():
    """Who looks for a name finds one thing; ``demo`` is what the registry asks of each method."""
    where: dict[str, list[str]] = {}
    for module in MODULES:
        for name in defined(ROOT / module):
            where.setdefault(name, []).append(module)
    doubled = {n: m for n, m in where.items() if len(m) > 1 and not n.startswith("_")}
    doubled.pop("demo")
    assert not doubled


def test_every_method_is_registered():
    """Each module of ``methods`` with a demo is in the registry under its name, and no other."""
    with_demo = {p.stem for p in (ROOT / "methods").glob("*.py") if "demo" in defined(p)}
    assert with_demo == set(METHODS)
    for name, entry in METHODS.items():
        assert entry.make.__module__ == f"moiety.methods.{name}"
        assert entry.demo.__module__ == entry.make.__module__
        assert entry.make.__name__ == name


def fresh(code: str) -> str:
    """Run code in a fresh process."""
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=True
    )
    return done.stdout.strip().splitlines()[-1]


def test_bare_import_brings_no_extra():
    """Torch may import some of them by itself where they are installed: that is not ours."""
    code = """
        import json, sys
        import torch
        before = set(sys.modules)
        import moiety
        print(json.dumps(sorted({name.split(".")[0] for name in set(sys.modules) - before})))
    """
    assert not set(json.loads(fresh(code))) & set(EXTRAS)


def test_bare_import_brings_little():
    """Modules are counted, not seconds: torch, numpy, safetensors, and the rooms of training."""
    code = """
        import json, sys
        import torch
        before = set(sys.modules)
        import moiety
        print(json.dumps(sorted(set(sys.modules) - before)))
    """
    brought = json.loads(fresh(code))
    ours = [name for name in brought if name.split(".")[0] == "moiety"]
    others = {name.split(".")[0] for name in set(brought) - set(ours)} - sys.stdlib_module_names
    assert {name for name in others if "cython" not in name} <= {"numpy", "safetensors"}
    assert not [name for name in ours if name.split(".")[1:2] in NOT_BROUGHT]
    assert len(brought) - len(ours) <= 40
    assert len(ours) <= 190


SLOW = ("sympy", "matplotlib", "scipy", "sklearn", "pyarrow", "optuna", "numpy.polynomial")
"""Modules that no answer of the command line needs, and that take longer than all of ours."""


@pytest.mark.parametrize("words", [["list"], ["run", "quickstart", "--help"], ["run", "--help"]])
def test_an_answer_of_the_command_line_brings_no_slow_module(words):
    """Modules are counted, not seconds: ``python -m benchmarks.startup`` prints those."""
    told = words == ["list"]  # of which nothing is imported, torch neither
    code = f"""
        import contextlib, io, json, sys
        {"" if told else "import torch"}
        before = set(sys.modules)
        from moiety.run.cli import main
        with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(SystemExit):
            main({words})
        print(json.dumps(sorted(set(sys.modules) - before)))
    """
    brought = json.loads(fresh(code))
    slow = (*SLOW, "torch" if told else "torch.distributed.")
    assert not [name for name in brought if name.startswith(slow)]
    assert "tyro" not in brought or not told
    assert len([name for name in brought if name.split(".")[0] != "moiety"]) <= 120


def test_names_and_rooms_of_the_package_are_there_when_asked_for():
    code = """
        import moiety
        assert all(getattr(moiety, name) is not None for name in moiety.__all__)
        import moiety.engine.pool as pool
        assert moiety.engine.pool is pool and moiety.report.write_report
        names = [name for some in moiety.ROOMS.values() for name in some]
        print(sorted(names) == sorted(moiety.__all__))
    """
    assert fresh(code) == "True"


def test_the_package_is_typed():
    assert (ROOT / "py.typed").exists()
    assert importlib.util.find_spec("moiety") is not None
