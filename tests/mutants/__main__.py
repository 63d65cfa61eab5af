"""Plant bugs one at a time in copies of the tree, and say which the tests caught.

    python -m tests.mutants [--area AREA ...] [--list NAME ...] [--jobs N]

A bug is caught where a test fails, and not where a test cannot be collected. Exits 1 if one
survives, if one can no longer be planted, or if a test fails without any.
"""

import argparse
import importlib
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from tests.mutants.all import LISTS
from tests.mutants.record import ROOT, Mutant

COPIED = ("src", "tests", "benchmarks", "examples", "docs", "README.md", "pyproject.toml")
OURS = ("moiety", "tests", "benchmarks")
LAST_S = 3600  # a bug that keeps a test from ending is no use: it is told as broken
WARM = ("torch", "torch.utils.flop_counter", "numpy", "safetensors.torch", "scipy.linalg")


def copy_tree(to: Path) -> Path:
    """Copy what the tests need."""
    for name in COPIED:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, to / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / name, to / name)
    return to


def start_tests(root: Path, tests: Sequence[str]) -> int:
    """Run some tests on a copy, in a child that has what is not ours imported; its number."""
    sys.stdout.flush()
    child = os.fork()
    if child:
        return child
    code = 9
    try:
        quiet = os.open(os.devnull, os.O_WRONLY)
        os.dup2(quiet, 1)
        os.dup2(quiet, 2)
        signal.alarm(LAST_S)
        os.chdir(root)
        os.environ.pop("MOIETY_DATA", None)
        os.environ |= {"PYTHONPATH": str(root / "src"), "PYTHONDONTWRITEBYTECODE": "1"}
        os.environ |= {"OMP_NUM_THREADS": "1"}
        for name in [name for name in sys.modules if name.partition(".")[0] in OURS]:
            del sys.modules[name]
        sys.dont_write_bytecode = True
        others = [place for place in sys.path if place not in ("", str(ROOT), str(ROOT / "src"))]
        sys.path[:] = [str(root / "src"), str(root), *others]
        code = int(pytest.main(["-x", "-q", "-p", "no:cacheprovider", *tests]))
    finally:
        os._exit(code)


def judge(chosen: Sequence[Mutant], copies: list[Path]) -> Iterator[tuple[Mutant, str]]:
    """Plant bugs, one in each copy at a time, and tell of each how its tests ended."""
    waiting, running = list(reversed(chosen)), {}
    while waiting or running:
        while waiting and copies:
            mutant, root = waiting.pop(), copies.pop()
            if why := mutant.stale():
                copies.append(root)
                yield mutant, f"stale: {why}"
                continue
            whole = mutant.plant(root)
            running[start_tests(root, mutant.tests)] = mutant, root, whole
        if running:
            child, status = os.wait()
            mutant, root, whole = running.pop(child)
            (root / mutant.path).write_text(whole, encoding="utf8")
            copies.append(root)
            code = os.waitstatus_to_exitcode(status)
            yield mutant, {0: "SURVIVED", 1: "caught"}.get(code, f"BROKEN: pytest ends with {code}")


def main() -> int:
    """Play the command."""
    parser = argparse.ArgumentParser(prog="make mutants", description=__doc__)
    parser.add_argument("--area", nargs="*", help="only of these rooms")
    parser.add_argument("--list", nargs="*", choices=sorted(LISTS), help="only of these lists")
    parser.add_argument("--jobs", type=int, default=2, help="copies of the tree at work")
    asked = parser.parse_args()
    lists = {name: LISTS[name] for name in asked.list or LISTS}
    chosen = [m for some in lists.values() for m in some if not asked.area or m.area in asked.area]
    for name in WARM:
        importlib.import_module(name)
    with tempfile.TemporaryDirectory() as place:
        copies = [copy_tree(Path(place) / str(number)) for number in range(max(1, asked.jobs))]
        first = start_tests(copies[0], sorted({test for m in chosen for test in m.tests}))
        if code := os.waitstatus_to_exitcode(os.waitpid(first, 0)[1]):
            print(f"the tests fail before any bug is planted: pytest ends with {code}")
            return 1
        caught = 0
        for mutant, said in judge(chosen, copies):
            caught += said == "caught"
            print(f"{mutant.area:11} {mutant.bug} ({mutant.file}): {said}", flush=True)
    print(f"caught {caught} of {len(chosen)} ({caught / max(1, len(chosen)):.0%})")
    return int(caught < len(chosen))


if __name__ == "__main__":
    raise SystemExit(main())
