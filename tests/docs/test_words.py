"""Old words do not come back: what a reader sees has the words of docs/design.md."""

import ast
import re
from pathlib import Path

import pytest

from tests.docs.blocks import ROOT, name_page

OLD = {
    r"dea(?:l|ls|lt|ling)": "assign, of an axis's units; give, of rows",
    r"(?<!by )(?<!at )hands?(?! over)": "subnet",
    r"rosters?": "cohort",
    r"turnout": "participation",
    r"probes?": "query",
    r"hint(?:s|ed)?": "answer",
    r"outer step": "server optimizer",
    r"tall(?:y|ies)": "statistics",
    r"rehearse[sd]?": "profile",
    r"numbers that are none": "not finite",
}
MEASURED = {"docs/results/ist.md"}
"""Written by a benchmark, whose rows keep the names under which they were measured."""

PAGES = [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("examples/*.py")]
SOURCE = [*ROOT.glob("src/**/*.py")]


def find_old(text: str) -> list[str]:
    return [
        f"{found.group()!r}: say {better} ({text[max(0, found.start() - 30) : found.end() + 30]!r})"
        for old, better in OLD.items()
        for found in re.finditer(rf"\b{old}\b", re.sub(r"\s+", " ", text), re.IGNORECASE)
    ]


@pytest.mark.parametrize("page", sorted(PAGES), ids=name_page)
def test_a_page_has_no_old_word(page: Path):
    if name_page(page) in MEASURED:
        return
    text = page.read_text(encoding="utf8")
    if page.name == "CHANGELOG.md":
        text = text.partition("\n## ")[0]  # what was is told in its own words
    assert not find_old(re.sub(r"`[^`\n]*`|\]\([^)]*\)", "", text))


@pytest.mark.parametrize("path", sorted(SOURCE), ids=name_page)
def test_a_docstring_has_no_old_word(path: Path):
    if "mixtures" in path.parts or path.name == "renamed.py":
        return  # a function is called so there; and the old names are listed
    for node in ast.walk(ast.parse(path.read_text(encoding="utf8"))):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
            told = ast.get_docstring(node) or ""
            told = re.sub(r"^ *\w+: ", "", told, flags=re.MULTILINE)  # names of parameters
            assert not find_old(re.sub(r"``[^`]*``", "", told))
