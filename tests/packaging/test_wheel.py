"""The wheel builds, installs in an empty environment and runs the quickstart there."""

import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def run(words: list[str], cwd: Path) -> str:
    done = subprocess.run(words, cwd=cwd, capture_output=True, text=True, check=False)
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


def test_the_wheel_runs_the_quickstart_in_an_empty_environment(wheel, tmp_path):
    home = tmp_path / "env"
    venv.create(home, with_pip=True)
    python = str(home / "bin" / "python")
    pip = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    run([*pip, "-c", str(ROOT / "constraints.txt"), f"{wheel}[data,report]"], tmp_path)
    said = run([str(home / "bin" / "moiety"), "run", "quickstart", "--seeds", "1"], tmp_path)
    assert "ddome" in said
    assert (tmp_path / "runs" / "quickstart" / "report.html").stat().st_size > 100_000
