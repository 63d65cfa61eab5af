"""The wheel builds, installs where nothing else is and runs the quickstart there."""

import email
import os
import subprocess
import sys
import venv
import zipfile
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]


def run(words: list[str], cwd: Path) -> str:
    env = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(words, cwd=cwd, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{words} gave {done.returncode}:\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("wheel")
    run([sys.executable, "-m", "build", "--wheel", "--no-isolation", "-o", str(out), "."], ROOT)
    return next(out.glob("moiety-*.whl"))


def test_the_wheel_holds_the_package_and_nothing_else(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.split("/")[0].partition("-")[0] for name in names} == {"moiety"}
    assert "moiety/py.typed" in names
    assert "moiety/report/page.html.j2" in names


def find_needed(wheel: Path, extras: set[str]) -> set[str]:
    """Follow what the wheel asks for, and what that asks for: names of distributions."""
    with zipfile.ZipFile(wheel) as packed:
        (name,) = (one for one in packed.namelist() if one.endswith(".dist-info/METADATA"))
        about = email.message_from_bytes(packed.read(name))
    left = [(Requirement(line), extras) for line in about.get_all("Requires-Dist", [])]
    found: set[str] = set()
    while left:
        wanted, within = left.pop()
        if wanted.marker and not any(wanted.marker.evaluate({"extra": e}) for e in within | {""}):
            continue
        name = canonicalize_name(wanted.name)
        if name in found:
            continue
        if name == "moiety":  # an extra of extras
            left += [
                (Requirement(line), wanted.extras) for line in about.get_all("Requires-Dist", [])
            ]
            continue
        found.add(name)
        assert wanted.specifier.contains(metadata.version(name), prereleases=True), wanted
        left += [(Requirement(line), wanted.extras) for line in metadata.requires(name) or []]
    return found


def test_the_wheel_runs_the_quickstart_where_only_what_it_asks_for_is_installed(wheel, tmp_path):
    """Links in place of copies: to install torch anew takes a minute, and tests torch."""
    home = tmp_path / "env"
    venv.create(home, with_pip=False)
    (packages,) = home.glob("lib/*/site-packages")
    for name in find_needed(wheel, {"data", "report"}):
        for path in metadata.files(name) or []:
            top = path.parts[0]
            if top not in ("..", "__pycache__", "moiety") and not (packages / top).exists():
                (packages / top).symlink_to(Path(str(metadata.distribution(name).locate_file(top))))
    command = [sys.executable, "-m", "pip", "--python", str(home / "bin" / "python"), "install"]
    run([*command, "--quiet", "--disable-pip-version-check", "--no-deps", str(wheel)], tmp_path)
    where = run([str(home / "bin" / "python"), "-c", "import moiety; print(moiety.__file__)"], home)
    assert str(packages) in where
    said = run(
        [str(home / "bin" / "moiety"), "run", "quickstart", "--seeds", "1", "--rounds", "10"],
        tmp_path,
    )
    assert "ddome" in said
    assert (tmp_path / "runs" / "quickstart" / "report.html").stat().st_size > 100_000
