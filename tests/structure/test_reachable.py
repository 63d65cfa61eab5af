"""Every module is what its dotted name says: no function or value of a package hides one."""

import subprocess
import sys
from pathlib import Path

import moiety

ROOT = Path(moiety.__file__).parent
MODULES = sorted(
    ".".join(("moiety", *path.relative_to(ROOT).with_suffix("").parts)).removesuffix(".__init__")
    for path in ROOT.rglob("*.py")
    if path.name != "__main__.py"
)


def test_every_module_is_reachable_as_an_attribute():
    """``import moiety.engine.pool as pool`` looks attributes up, one after the other."""
    lines = [
        line
        for place, name in enumerate(MODULES)
        for line in (f"import {name} as m{place}", f"assert m{place} is sys.modules[{name!r}]")
    ]
    done = subprocess.run(
        [sys.executable, "-c", "\n".join(["import sys", *lines])],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert not done.returncode, done.stderr
    assert len(MODULES) > 100
