"""Every module is what its dotted name says: no function or value of a package hides one."""

import importlib
import sys
from pathlib import Path

import pytest

import moiety

ROOT = Path(moiety.__file__).parent
MODULES = sorted(
    ".".join(("moiety", *path.relative_to(ROOT).with_suffix("").parts)).removesuffix(".__init__")
    for path in ROOT.rglob("*.py")
    if path.name != "__main__.py"
)


@pytest.mark.parametrize("name", MODULES)
def test_every_module_is_reachable_as_an_attribute(name):
    """``import moiety.engine.pool as pool`` looks attributes up, one after the other."""
    module = importlib.import_module(name)
    found = sys.modules["moiety"]
    for part in name.split(".")[1:]:
        found = getattr(found, part)
    assert found is module


def test_modules_are_found():
    assert len(MODULES) > 100
