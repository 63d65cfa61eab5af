"""The site builds strictly, holds what it must, fetches nothing, and its links lead somewhere."""

import re
import shutil
import subprocess
import sys
import zlib
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

import moiety
from moiety.methods import METHODS

ROOT = Path(__file__).parents[2]
PAGES = sorted((ROOT / "docs").rglob("*.md"))
READ = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *PAGES]
FENCED = re.compile(r"^(```|~~~).*?^\1", flags=re.MULTILINE | re.DOTALL)
LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
OUTSIDE = re.compile(r"""(?:src|href)=["']?(?:https?:)?//|url\(["']?(?:https?:)?//|@import""")
SECTIONS = ("when", "options", "measured")


def slug(heading: str) -> str:
    """Give the anchor that the site and code hosts give a heading."""
    plain = re.sub(r"[^\w\s-]", "", re.sub(r"[`*]", "", heading).strip().lower())
    return re.sub(r"\s+", "-", plain)


def anchors(text: str) -> set[str]:
    return {slug(line) for line in re.findall(r"^#+ (.+)$", FENCED.sub("", text), re.MULTILINE)}


@pytest.mark.parametrize("page", READ, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_every_link_leads_to_a_file_and_a_heading(page):
    for link in LINK.findall(FENCED.sub("", page.read_text(encoding="utf8"))):
        parts = urlsplit(link)
        if parts.scheme:
            continue
        target = (page.parent / unquote(parts.path)).resolve() if parts.path else page
        assert target.exists(), f"{link} leads nowhere"
        home = ROOT / "docs" if ROOT / "docs" in page.parents else ROOT
        assert home in target.parents, f"{link} leaves what the page is read in"
        if parts.fragment and target.suffix == ".md":
            assert parts.fragment in anchors(target.read_text(encoding="utf8")), link


def test_the_menu_has_every_page_once():
    menu = (ROOT / "mkdocs.yml").read_text(encoding="utf8").partition("\nnav:\n")[2]
    listed = re.findall(r"[\w./-]+\.md", menu)
    assert sorted(listed) == sorted(p.relative_to(ROOT / "docs").as_posix() for p in PAGES)


@pytest.mark.parametrize("name", sorted(METHODS))
def test_a_method_has_a_page(name):
    text = (ROOT / "docs" / "methods" / f"{name}.md").read_text(encoding="utf8")
    headings = [line.strip("# ").lower() for line in re.findall(r"^## .+$", text, re.MULTILINE)]
    for section in SECTIONS:
        assert any(heading.startswith(section) for heading in headings), f"no section {section}"
    assert "arXiv:" in text
    assert re.search(r"^(moiety|torchrun .*-m moiety) run ", text, re.MULTILINE), "no command"
    assert f"({name}.md)" in (ROOT / "docs" / "methods" / "index.md").read_text(encoding="utf8")


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    """Build the site from a copy of what it reads, so that nothing is left in the tree."""
    here = tmp_path_factory.mktemp("site")
    for name in ("docs", "examples"):
        shutil.copytree(ROOT / name, here / name)
    for name in ("mkdocs.yml", "CONTRIBUTING.md", "CHANGELOG.md"):
        shutil.copy(ROOT / name, here)
    (here / "src").symlink_to(ROOT / "src")
    words = [sys.executable, "-m", "zensical", "build", "--strict"]
    done = subprocess.run(words, cwd=here, capture_output=True, text=True, check=False)
    told = done.stdout + done.stderr
    assert done.returncode == 0, told
    assert "No issues found" in told
    assert "griffe:" not in told, f"a docstring does not fit its signature:\n{told}"
    return here / "site"


def test_the_site_has_every_public_name_and_method(site):
    inventory = (site / "objects.inv").read_bytes().split(b"\n", 4)[4]
    names = {line.split()[0] for line in zlib.decompress(inventory).decode().splitlines()}
    rooms = [f"{module}.{name}" for module, some in moiety.ROOMS.items() for name in some]
    made = [f"{entry.make.__module__}.{entry.make.__name__}" for entry in METHODS.values()]
    missing = {*rooms, *made} - names
    assert not missing, sorted(missing)


def test_the_site_fetches_nothing_from_elsewhere(site):
    read = [path for path in site.rglob("*") if path.suffix in (".html", ".css")]
    assert len(read) > len(PAGES)
    for path in read:
        text = re.sub(r'<a [^>]*href="[^"]*"', "", path.read_text(encoding="utf8"))
        assert not OUTSIDE.search(text), f"{path.name}: {OUTSIDE.search(text)}"


def test_examples_in_docstrings_are_code(site):
    text = (site / "api" / "core.html").read_text(encoding="utf8")
    assert "&gt;&gt;&gt;" in text
    assert "<blockquote>" not in text


def test_pages_that_include_files_show_them(site):
    for page, words in (
        ("tutorials", "play_round"),
        ("contributing", "make test"),
        ("changelog", "0.1.0"),
    ):
        text = re.sub(r"<[^>]+>", "", (site / f"{page}.html").read_text(encoding="utf8"))
        assert words in text
        assert "8&lt;" not in text
