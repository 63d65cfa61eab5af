"""What is said of installing works from a checkout: no index is asked for the package's name."""

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]
READ = ("README.md", "CONTRIBUTING.md", "Makefile", "docs/**/*.md", "src/**/*.py")
NAMED = re.compile(r"\.\[(?P<extras>[\w,-]+)\]")


def read_lines():
    for pattern in READ:
        for path in sorted(ROOT.glob(pattern)):
            for line in path.read_text(encoding="utf8").splitlines():
                yield path.relative_to(ROOT).as_posix(), line


def test_nobody_is_told_to_install_the_name_from_an_index():
    assert [f"{path}: {line.strip()}" for path, line in read_lines() if "moiety[" in line] == []


def test_only_one_module_says_how_an_extra_is_installed():
    said = {
        path for path, line in read_lines() if path.startswith("src/") and "pip install" in line
    }
    assert said == {"src/moiety/core/extras.py"}


def test_every_extra_that_is_named_exists():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf8"))["project"]
    there = set(project["optional-dependencies"])
    named = {
        extra
        for _, line in read_lines()
        for found in NAMED.finditer(line)
        if "pip install" in line
        for extra in found["extras"].split(",")
    }
    assert {"data", "report"} <= named <= there
