"""What the pages show: blocks of code, commands, and words in code."""

import re
import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = sorted((ROOT / "docs").rglob("*.md"))
READ = (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *PAGES)
FENCE = re.compile(r"^( *)```(\w*)\n(.*?)^ *```", flags=re.MULTILINE | re.DOTALL)
OURS = {"moiety": "moiety", "torchrun": "torch.distributed.run"}


def name_page(page: Path) -> str:
    """Name a page as its readers do."""
    return page.relative_to(ROOT).as_posix()


def read_blocks(page: Path, kind: str) -> list[str]:
    """Read the fenced blocks of a language, without their indent."""
    found = FENCE.findall(page.read_text(encoding="utf8"))
    return [
        re.sub(rf"^{indent}", "", body, flags=re.MULTILINE)
        for indent, k, body in found
        if k == kind
    ]


def read_prose(page: Path) -> str:
    """Read a page without its blocks."""
    return FENCE.sub("", page.read_text(encoding="utf8"))


def read_spans(page: Path) -> list[str]:
    """Read what stands in code within the text."""
    return re.findall(r"`([^`\n]+)`", read_prose(page))


def split_words(block: str) -> list[list[str]]:
    """Split a block into commands and their words; comments and variables before them go."""
    joined = block.replace("\\\n", " ")
    lines = [line.partition("  #")[0].strip() for line in joined.splitlines()]
    found = [shlex.split(line) for line in lines if line and not line.startswith("#")]
    return [drop_variables(words) for words in found]


def drop_variables(words: Sequence[str]) -> list[str]:
    """Leave out ``NAME=value`` before a command."""
    kept = list(words)
    while kept and re.fullmatch(r"[A-Z_]+=.*", kept[0]):
        kept.pop(0)
    return kept


def iterate_commands() -> Iterator[tuple[str, list[str]]]:
    """Give every command of every page, of blocks and of the text, with the page's name."""
    for page in READ:
        for block in read_blocks(page, "sh"):
            yield from ((name_page(page), words) for words in split_words(block))
        for span in read_spans(page):
            if re.match(r"(moiety [a-z]+ |torchrun |python -m )", span):
                yield name_page(page), shlex.split(span)
