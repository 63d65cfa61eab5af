"""Made-up requests of a few skills, for a language model that was never trained."""

from __future__ import annotations

import torch

from moiety.core.streams import stream
from moiety.data.records import RecordColumns, Records

NAME, SIZE = "skills", 240

KINDS = {
    "greet": (("greet", "welcome"), "hi"),
    "refuse": (("refuse", "deny"), "no"),
    "thank": (("thank", "bless"), "ta"),
    "ask": (("ask", "query"), "eh"),
}
"""Skill -> wordings of a request, and the answer that is wanted."""

WORDS = ("ann", "bob", "lake", "dog", "winter", "friend", "town", "tea")


def make_skill_records(size: int = SIZE) -> Records:
    """Draw requests from a fixed seed, as many of each skill."""
    requests, answers, skills = [], [], []
    for place in range(size):
        skill = [*KINDS][place % len(KINDS)]
        wordings, answer = KINDS[skill]
        rng = stream(0, "skills", place)
        first, second = torch.randint(len(wordings) * len(WORDS), (2,), generator=rng).tolist()
        word = WORDS[second % len(WORDS)]
        requests.append(f"{wordings[first % len(wordings)]} {word}")
        answers.append(answer)
        skills.append(skill)
    return Records(requests, answers, skills, (), RecordColumns())
