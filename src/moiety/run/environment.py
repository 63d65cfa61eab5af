"""Where a run ran: versions, machine, revision."""

from __future__ import annotations

import platform
import subprocess
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

PACKAGES = ("moiety", "torch", "numpy", "safetensors", "scikit-learn")


def describe_environment() -> Mapping[str, str]:
    """Describe versions, machine and, inside a git checkout, the revision."""
    found = {"python": platform.python_version(), "system": platform.platform()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return {**found, "processor": name_processor(), "revision": read_revision()}


def name_processor() -> str:
    """Name the processor."""
    path = Path("/proc/cpuinfo")
    if path.exists():
        for line in path.read_text(encoding="utf8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def read_revision() -> str:
    """Give the git revision of the code that runs, ``-dirty`` if it was changed; or ``unknown``."""
    here = Path(__file__).parent
    # Without locks: a run that is killed here must leave none in the repository.
    git = ["git", "--no-optional-locks", "-C", str(here)]
    try:
        top = subprocess.run(
            [*git, "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=True
        )
        inside = subprocess.run(
            [*git, "ls-files", "--error-unmatch", __file__], capture_output=True, check=False
        )
        changed = subprocess.run(
            [*git, "status", "--porcelain", "--untracked-files=no"],
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    if inside.returncode:
        return "unknown"
    return top.stdout.strip() + ("-dirty" if changed.stdout.strip() else "")
