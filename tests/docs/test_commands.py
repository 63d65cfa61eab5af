"""Every command of the pages is taken by the command that it names, and so is every option."""

import ast
import importlib
import importlib.util
import re
import runpy
from dataclasses import fields, is_dataclass
from pathlib import Path

import pytest
import torch

from moiety.methods import METHODS
from moiety.recipes.options import RECORDS
from moiety.recipes.record import Federation
from moiety.run.cli import COMMANDS, main
from tests.docs.blocks import (
    READ,
    ROOT,
    iterate_commands,
    name_page,
    read_blocks,
    read_prose,
    read_spans,
)

RECIPE_COMMANDS = ("run", "plan", "profile", "sweep")
PLACEHOLDERS = {"RECIPE": "quickstart", "RUN": "runs/mine", "METHOD": "fedavg"}
OTHERS = {"make", "rm", "git", "pip", "fresh/bin/moiety", "fresh/bin/python"}
FOREIGN = {
    "--help", "--help-all", "--version", "--no-deps", "--strict", "--nproc-per-node", "--nnodes",
    "--rdzv-endpoint", "--check", "--json", "--quick", "--field", "--halfway.share", "--places",
    "--base", "--only", "--priors", "--stream",
}  # fmt: skip
"""Of torchrun, pip, flwr, the benchmarks and every command; and those that stand for others."""

FILES = (".py", ".md", ".json", ".npz", ".csv", ".txt")

SHIPPED = ("quickstart", "ist-digits")
"""Recipes whose data come with scikit-learn, and whose round is short."""

FOUND = list(dict.fromkeys((page, tuple(words)) for page, words in iterate_commands()))


def take_ours(words: tuple[str, ...]) -> list[str] | None:
    """Take the words of ``moiety``, also where torchrun or python starts it; None for others."""
    for start in (("moiety",), ("-m", "moiety")):
        at = words.index(start[-1]) if start[-1] in words else -1
        if at >= 0 and words[max(0, at - len(start) + 1) : at + 1] == start:
            return [PLACEHOLDERS.get(word, word) for word in words[at + 1 :]]
    return None


MOIETY = [(page, ours) for page, words in FOUND if (ours := take_ours(words)) is not None]
SHOWN = [(page, ours) for page, ours in MOIETY if not {"[--field", "halfway"} & {*ours}]
"""Without the one that stands for all, and the method that CONTRIBUTING adds."""


class ParsedError(Exception):
    """The words were taken; nothing more is to happen."""


@pytest.fixture
def desk(tmp_path, monkeypatch, undrawn) -> Path:
    """An empty folder with the files that the pages' text writes first."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.toml").write_text(
        next(b for page in READ for b in read_blocks(page, "toml") if "mine.toml" in b)
    )
    return tmp_path


@pytest.mark.parametrize(
    ("page", "words"), SHOWN, ids=[f"{page}: {' '.join(words)}" for page, words in SHOWN]
)
def test_a_command_is_taken(page, words, desk, monkeypatch, capsys):
    command = words[0]
    assert command in COMMANDS
    if command in RECIPE_COMMANDS:
        module = importlib.import_module(f"moiety.run.commands.{command}")
        check = module.check_record

        def stop(record):
            check(record)
            raise ParsedError

        monkeypatch.setattr(module, "check_record", stop)
        with pytest.raises((ParsedError, SystemExit)) as raised:
            main(words)
        done = isinstance(raised.value, ParsedError) or raised.value.code == 0
        assert done, capsys.readouterr()
        return
    try:
        code = main(words)
    except SystemExit as stopped:
        code = stopped.code
    assert code in (0, 1), capsys.readouterr()  # 1 where the run that it names is not there


def list_plays() -> list[tuple[str, ...]]:
    """Give shown runs of data that are there, as few as have every option and method once."""
    plays, said = [], set()
    for page, words in sorted(SHOWN, key=lambda shown: -len(shown[1])):
        if page == "README.md" or words[:1] != ["run"] or words[1] not in SHIPPED:
            continue
        new = {word for word in words[1:] if word.startswith("--") or word in METHODS} - said
        others = {"--engine", "--help", "--config", "--common.model"}
        if new - {"--out", "--seeds", "--rounds"} and not others & {*words}:
            said |= new
            plays.append(tuple(words))
    return plays


@pytest.mark.parametrize("words", list_plays(), ids=" ".join)
def test_a_shown_run_plays_a_round(words, desk, capsys):
    small = ["--rounds", "1", "--seeds", "1", "--out", "runs/shown", "--common.epochs", "1"]
    assert main([*words, *small]) == 0, capsys.readouterr()
    assert (desk / "runs" / "shown" / "report.html").exists()


def test_the_pages_name_no_other_programs():
    known = {"moiety", "torchrun", "python", *OTHERS}
    assert not {words[0] for _, words in FOUND} - known


@pytest.mark.parametrize(
    ("page", "words"),
    [(page, words) for page, words in FOUND if words[:2] == ("python", "-m")],
    ids=lambda value: value if isinstance(value, str) else " ".join(value),
)
def test_a_module_that_is_run_is_there_and_has_the_options(page, words):
    module = words[2]
    if module in ("pip", "build", "twine", "venv", "http.server"):
        return
    place = importlib.util.find_spec(module)
    assert place is not None
    assert place.origin is not None
    read = [Path(place.origin), ROOT / "benchmarks" / "gates.py"]
    told = "".join(path.read_text(encoding="utf8") for path in read)
    for option in [word for word in words if word.startswith("--")]:
        assert option in told, f"{module} has no {option}"


def list_options(record: type, prefix: str = "") -> set[str]:
    """List the dotted names of a record's fields."""
    made = set()
    for item in fields(record):
        shape = item.default_factory() if callable(item.default_factory) else item.default
        made.add(prefix + item.name)
        if is_dataclass(shape):
            made |= list_options(type(shape), f"{prefix}{item.name}.")
    return made


def list_all_options() -> set[str]:
    """List all options: of recipes, methods, networks and commands."""
    made = list_options(Federation)
    for name, record in RECORDS.items():
        made |= {name} | list_options(record, f"{name}.")
    for command in COMMANDS:
        module = importlib.import_module(f"moiety.run.commands.{command}")
        for name, shape in vars(module).items():
            if name.endswith("Arguments"):
                made |= {item.name for item in fields(shape)} | {"try"}
    return made


@pytest.mark.parametrize("page", READ, ids=name_page)
def test_an_option_in_the_text_exists(page):
    known = list_all_options()
    heads = {name.partition(".")[0] for name in known if "." in name}
    for option in re.findall(r"(?<![\w-])--[a-z][\w.-]*", read_prose(page)):
        name = option[2:].rstrip(".").replace("-", "_")
        head, dot, rest = name.rpartition(".")
        plain = f"{head}{dot}{rest.removeprefix('no_')}"
        assert option.rstrip(".") in FOREIGN or {name, plain} & known, option
    for span in read_spans(page):
        for name in re.findall(r"(?<![\w./`-])([a-z]\w*(?:\.[a-z_]+)+)(?![\w.(/*-])", span):
            if name.partition(".")[0] in heads and not name.endswith(FILES):
                assert name in known, f"{name} in {span}"


@pytest.mark.parametrize("page", READ, ids=name_page)
def test_a_function_in_the_text_exists(page):
    read = [
        *ROOT.glob("src/**/*.py"),
        *ROOT.glob("benchmarks/**/*.py"),
        *ROOT.glob("tests/**/*.py"),
    ]
    source = "\n".join(path.read_text(encoding="utf8") for path in read)
    made = set(re.findall(r"(?:def|class) (\w+)|^(\w+)(?:: [^=\n]+)? = ", source, re.MULTILINE))
    known = {name for pair in made for name in pair} | {"max", "ceil", "sub"}
    for span in read_spans(page):
        for name in re.findall(r"(?<![\w.])([a-z_][\w.]*\w\w)\(", span):
            place, _, last = name.rpartition(".")
            there = dir(torch.nn) if place == "nn" else known | {"pi_k", "phi_k"}
            assert last in there, f"{name} in {span}"
        if re.fullmatch(r"moiety(\.\w+)+", span):
            assert re.search(rf"\b{span.rpartition('.')[2]}\b", source), span


@pytest.mark.parametrize("page", READ, ids=name_page)
def test_a_file_of_the_package_in_the_text_exists(page):
    rooms = {path.name for path in (ROOT / "src" / "moiety").iterdir() if path.is_dir()}
    for span in read_spans(page):
        path = span.partition(":")[0]
        head = path.partition("/")[0]
        if re.fullmatch(r"[\w/]+\.\w+", path) and head in {*rooms, "tests", "docs", "benchmarks"}:
            assert (ROOT / path).exists() or (ROOT / "src/moiety" / path).exists(), span


def test_commands_stand_in_blocks_that_are_tested():
    for page in READ:
        loose = re.findall(r"^    (?:moiety|torchrun|python -m) .*", read_prose(page), re.MULTILINE)
        assert not loose, f"{name_page(page)}: put it in a block of sh: {loose}"


ALONE = {
    "docs/modules.md": "runs beside the README's",
    "docs/data.md": "reads a data set that does not ship",
    "docs/cluster.md": "needs ranks, and rows of one's own",
    "docs/methods/ist.md": "reads files of one's own",
    "docs/methods/ist-transformers.md": "goes on from a run",
    "docs/methods/lora.md": "goes on from a run",
    "docs/methods/mops.md": "takes a language model of one's own",
}
"""Pages whose Python only compiles here, with imports that are found, and why."""


@pytest.mark.parametrize(
    "page",
    [p for p in READ if p.name != "CONTRIBUTING.md" and read_blocks(p, "python")],
    ids=name_page,
)
def test_the_python_of_a_page_compiles_and_imports_what_is_there(page):
    for block in read_blocks(page, "python"):
        for node in ast.walk(ast.parse(block)):
            source = getattr(node, "module", None) or ""
            if isinstance(node, ast.ImportFrom) and source.partition(".")[0] == "moiety":
                module = importlib.import_module(source)
                for item in node.names:
                    assert hasattr(module, item.name) or importlib.util.find_spec(
                        f"{source}.{item.name}"
                    ), item.name
            if isinstance(node, ast.Attribute) and getattr(node.value, "id", "") == "moiety":
                assert getattr(importlib.import_module("moiety"), node.attr, None) is not None


@pytest.mark.parametrize(
    "page",
    [
        p
        for p in READ
        if p.parent != ROOT and name_page(p) not in ALONE and read_blocks(p, "python")
    ],
    ids=name_page,
)
def test_the_python_of_a_page_runs(page, tmp_path, monkeypatch, undrawn):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "page.py").write_text("\n".join(read_blocks(page, "python")), encoding="utf8")
    with torch.random.fork_rng():
        runpy.run_path("page.py")
