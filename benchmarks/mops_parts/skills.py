"""Eight made-up skills of strings, documents that show them, and requests that name one.

A base model learns the skills from documents in which a tag or lines of the same skill say which is
meant; it never sees the wordings of the requests.
"""

from __future__ import annotations

import inspect
import string
from collections.abc import Callable, Mapping, Sequence
from types import ModuleType

import torch
from torch import Generator

from benchmarks.mops_parts.records import Record
from moiety.core.streams import stream

LETTERS, WIDTH = "abcdefghijklmnop", 5

LONGEST = 48
"""Tokens of a document, and of a record at most."""

NAMES = (*map(chr, range(128)), *(f"<{place}>" for place in range(16)))
"""Tokens: ASCII, and tags of skills."""

TAGS = 128

SKILLS: Mapping[str, tuple[Callable[[str], str], tuple[str, str]]] = {
    "copy": (lambda s: s, ("say it again", "repeat the letters")),
    "reverse": (lambda s: s[::-1], ("write it backwards", "flip the order")),
    "upper": (str.upper, ("use capitals", "make it loud")),
    "shift": (
        lambda s: "".join(LETTERS[(LETTERS.index(c) + 1) % len(LETTERS)] for c in s),
        ("next of each", "move along by one"),
    ),
    "first": (lambda s: s[0] * WIDTH, ("only the front", "fill with the initial")),
    "last": (lambda s: s[-1] * WIDTH, ("only the end", "fill with the final")),
    "double": (lambda s: "".join(c + c for c in s[:3]), ("stutter it", "twice each of three")),
    "rotate": (lambda s: s[2:] + s[:2], ("turn it around", "two to the rear")),
}
"""Skill -> what it does to a string, and two wordings of a request."""


def encode(text: str) -> list[int]:
    """Read ASCII as its numbers."""
    return [ord(letter) for letter in text]


def draw_string(rng: Generator) -> str:
    """Draw a string of letters."""
    return "".join(LETTERS[i] for i in torch.randint(len(LETTERS), (WIDTH,), generator=rng))


def read_english(modules: Sequence[ModuleType] = (inspect, string)) -> str:
    """Read plain text: what modules of the standard library say of themselves, in small letters."""
    found = [one.__doc__ or "" for module in modules for one in (module, *vars(module).values())]
    text = " ".join(" ".join(found).split()).lower()
    return "".join(letter for letter in text if ord(letter) < TAGS)


def draw_document(english: str, rng: Generator) -> list[int]:
    """Draw a document: plain text, or perhaps some of it, perhaps a tag, and lines of one skill."""
    plain, front, tagged = torch.rand(3, generator=rng).tolist()
    place, length, skill = (
        int(torch.randint(size, (1,), generator=rng))
        for size in (len(english) - LONGEST, 12, len(SKILLS))
    )
    if plain < 0.15:
        return encode(english[place : place + LONGEST])
    some = english[place : place + length] + "\n" if front < 0.3 else ""
    ids = encode(some) + ([TAGS + skill] if tagged < 0.6 else [])
    apply, _ = [*SKILLS.values()][skill]
    while len(ids) < LONGEST:
        asked = draw_string(rng)
        ids += encode(f"{asked}>{apply(asked)}\n")
    return ids[:LONGEST]


def draw_records(skill: int, size: int, rng: Generator) -> list[Record]:
    """Draw requests for a skill by one of its wordings, and their answers."""
    apply, wordings = [*SKILLS.values()][skill]
    found = []
    for place in range(size):
        asked = draw_string(rng)
        front = encode(f"{wordings[place % len(wordings)]}: {asked}>")
        found.append(Record([*front, *encode(apply(asked) + "\n")], len(front), skill))
    return found


def draw_tagged(skill: int, size: int) -> list[Record]:
    """Draw lines that a tag asks for: what a base model is to know."""
    rng, apply = stream(0, "tagged", skill), [*SKILLS.values()][skill][0]
    found = []
    for _ in range(size):
        asked = draw_string(rng)
        front = [TAGS + skill, *encode(f"{asked}>")]
        found.append(Record([*front, *encode(apply(asked) + "\n")], len(front), skill))
    return found
