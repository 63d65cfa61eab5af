"""The README's commands and Python run as they stand, one after the other, in an empty folder."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tests.forked import run_forked

ROOT = Path(__file__).parents[2]
MAKE = {"make demo", "make test", "make docs", "make test-data", "make mutants"}
OURS = {"moiety": "moiety", "torchrun": "torch.distributed.run"}


def blocks(text: str) -> list[tuple[str, str]]:
    return re.findall(r"^```(sh|python)\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL)


def commands(block: str) -> list[list[str]]:
    lines = [line.partition("  #")[0].strip() for line in block.splitlines()]
    return [shlex.split(line) for line in lines if line and line not in MAKE]


def run(words: list[str], cwd: Path) -> str:
    done = subprocess.run(words, cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{words} gave {done.returncode}:\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Play the README; what each command or block printed, by its first line."""
    from sklearn.datasets import load_wine

    here = tmp_path_factory.mktemp("readme")
    wine = load_wine(as_frame=True)
    frame = wine.frame.rename(columns={"target": "label"})
    frame.to_csv(here / "table.csv", index=False)
    said = {}
    for kind, block in blocks((ROOT / "README.md").read_text(encoding="utf8")):
        if kind == "python":
            said[block.splitlines()[0] + str(len(said))] = run([sys.executable, "-c", block], here)
            continue
        for words in commands(block):
            assert words[0] in OURS, f"the README names a command that is not ours: {words}"
            if words[0] == "moiety":
                said[" ".join(words)] = run_forked(words[1:], here)
            else:
                said[" ".join(words)] = run(
                    [sys.executable, "-m", OURS[words[0]], *words[1:]], here
                )
    return said


def test_every_command_of_the_readme_succeeds(played):
    assert {words.split()[1] for words in played if words.startswith("moiety")} >= {
        "list",
        "run",
        "report",
        "personalize",
        "predict",
    }


def test_the_example_learns(played):
    told = [text for text in played.values() if text.startswith("accuracy ")]
    assert len(told) == 1
    assert float(told[0].split()[1]) > 0.9


def test_the_personal_model_covers_the_classes_of_its_rows(played):
    text = next(t for words, t in played.items() if words.startswith("moiety personalize"))
    share = {row.split()[0]: row.split()[1] for row in text.splitlines() if row[:1].isdigit()}
    assert float(share["3"]) + float(share["8"]) > 0.5


def test_the_python_of_the_page_on_modules_runs(tmp_path):
    text = (ROOT / "docs" / "modules.md").read_text(encoding="utf8")
    code = "\n".join(block for kind, block in blocks(text) if kind == "python")
    run([sys.executable, "-c", code], tmp_path)
    assert (tmp_path / "runs" / "own" / "final" / "model.safetensors").exists()


def test_the_example_file_is_the_readme_s():
    python = [block for kind, block in blocks((ROOT / "README.md").read_text()) if kind == "python"]
    example = (ROOT / "examples" / "module.py").read_text(encoding="utf8")
    assert python[-1] in example
