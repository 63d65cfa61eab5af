"""The walks of CONTRIBUTING, followed in a copy of the package: what it says is all to do."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.docs.blocks import ROOT, read_blocks

WALKED = ("halfway", "comb")


@pytest.fixture(scope="module")
def copy(tmp_path_factory) -> Path:
    """A copy of package and laws, with the blocks where they say, and two lines a method."""
    here = tmp_path_factory.mktemp("walk")
    (here / "tests").mkdir()
    for place in ("src/moiety", "tests/laws"):
        shutil.copytree(ROOT / place, here / place, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("conftest.py", "waiting.py"):
        shutil.copy(ROOT / "tests" / name, here / "tests")
    for block in read_blocks(ROOT / "CONTRIBUTING.md", "python"):
        place = here / block.partition("\n")[0].removeprefix("# ")
        assert place.suffix == ".py", block
        assert not place.exists(), f"{place.name} is there already"
        place.parent.mkdir(exist_ok=True)
        place.write_text(block, encoding="utf8")
    registry = here / "src" / "moiety" / "methods" / "__init__.py"
    text = registry.read_text(encoding="utf8")
    for name in WALKED:
        text = text.replace('        "ist"', f'        "{name}": MethodLine(),\n        "ist"', 1)
    registry.write_text(text, encoding="utf8")
    return here


def run(here: Path, *words: str) -> str:
    env = {**os.environ, "PYTHONPATH": f"{here / 'src'}{os.pathsep}{here}", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-m", *words],
        cwd=here,
        env=env,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{words}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def test_the_methods_are_offered_with_their_options_and_play(copy):
    said = run(
        copy,
        *("moiety", "run", "ist-digits", "--methods", *WALKED, "--halfway.share", "0.3"),
        *("--comb.teeth", "3", "--rounds", "2", "--seeds", "1", "--out", "runs/walk"),
    )
    assert {row.split()[0] for row in said.splitlines() if row.strip()} >= {*WALKED}


def test_the_methods_keep_laws_and_the_numbers_by_hand(copy):
    laws = ["tests/laws/test_learning.py", "tests/laws/test_asking.py", "tests/unit"]
    told = run(
        copy,
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "--import-mode=importlib",
        *laws,
        "-k",
        "comb and not pool and not vectorized",
    )
    passed = re.search(r"(\d+) passed", told)
    assert passed, told
    assert int(passed.group(1)) > 5
