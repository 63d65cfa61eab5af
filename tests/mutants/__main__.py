"""Plant bugs one at a time in copies of the tree, and say which the tests caught.

    python -m tests.mutants [--area AREA ...] [--list NAME ...] [--jobs N]

A bug is caught where a test fails, and not where a test cannot be collected. Exits 1 if one
survives, if one can no longer be planted, or if a test fails without any.
"""

import argparse
import os
import queue
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.mutants.all import LISTS
from tests.mutants.record import ROOT, Mutant

COPIED = ("src", "tests", "benchmarks", "examples", "docs", "README.md", "pyproject.toml")


def copy_tree(to: Path) -> Path:
    """Copy what the tests need."""
    for name in COPIED:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, to / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / name, to / name)
    return to


def run_tests(root: Path, tests: Sequence[str]) -> int:
    """Run some tests on a copy; what pytest returns."""
    python = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *tests]
    space = {name: value for name, value in os.environ.items() if name != "MOIETY_DATA"}
    space |= {"PYTHONPATH": str(root / "src"), "PYTHONDONTWRITEBYTECODE": "1"}
    space |= {"OMP_NUM_THREADS": "1"}
    return subprocess.run(python, cwd=root, env=space, capture_output=True, check=False).returncode


def judge(mutant: Mutant, root: Path) -> str:
    """Plant one bug, run its tests, and take it away."""
    if why := mutant.stale():
        return f"stale: {why}"
    whole = mutant.plant(root)
    try:
        code = run_tests(root, mutant.tests)
    finally:
        (root / mutant.path).write_text(whole, encoding="utf8")
    return {0: "survived", 1: "caught"}.get(code, f"broken: pytest ends with {code}")


def main() -> int:
    """Play the command."""
    parser = argparse.ArgumentParser(prog="make mutants", description=__doc__)
    parser.add_argument("--area", nargs="*", help="only of these rooms")
    parser.add_argument("--list", nargs="*", choices=sorted(LISTS), help="only of these lists")
    parser.add_argument("--jobs", type=int, default=2, help="copies of the tree at work")
    asked = parser.parse_args()
    lists = {name: LISTS[name] for name in asked.list or LISTS}
    chosen = [m for some in lists.values() for m in some if not asked.area or m.area in asked.area]
    with tempfile.TemporaryDirectory() as place:
        copies: queue.Queue[Path] = queue.Queue()
        for number in range(max(1, asked.jobs)):
            copies.put(copy_tree(Path(place) / str(number)))
        if code := run_tests(copies.queue[0], sorted({test for m in chosen for test in m.tests})):
            print(f"the tests fail before any bug is planted: pytest ends with {code}")
            return 1

        def judged(mutant: Mutant) -> str:
            root = copies.get()
            try:
                return judge(mutant, root)
            finally:
                copies.put(root)

        caught = 0
        with ThreadPoolExecutor(max(1, asked.jobs)) as pool:
            for mutant, said in zip(chosen, pool.map(judged, chosen), strict=True):
                caught += said == "caught"
                print(f"{mutant.area:11} {mutant.bug} ({mutant.file}): {said}", flush=True)
    print(f"caught {caught} of {len(chosen)} ({caught / max(1, len(chosen)):.0%})")
    return int(caught < len(chosen))


if __name__ == "__main__":
    raise SystemExit(main())
