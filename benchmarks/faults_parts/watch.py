"""Tries in forked processes, many to one: one that hangs or crashes counts, and the rest go on."""

from __future__ import annotations

import contextlib
import io
import json
import os
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

from moiety.core.errors import RunError, explain_memory_error

LAST_S = 120.0
"""Seconds without the end of a try after which it counts as hung."""

Try = tuple[str, Callable[[], str]]
"""A name, and what to do: it gives what was answered, or raises what it was refused with."""


def refuse(text: str) -> str:
    """Say what is wrong with a refusal; nothing where it is one sentence."""
    said = text.strip()
    if not said:
        return "refused without a word"
    if "\n" in said or "Traceback" in said:
        return f"more than a sentence: {said[-300:]}"
    return ""


def judge(act: Callable[[], str], fits: Callable[[str], bool]) -> str:
    """Do one thing, and say what is wrong with how it ended; nothing where all is well."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            told = act()
    except (RunError, ValueError, OSError) as error:
        return refuse(str(error))
    except BaseException as error:
        if explain_memory_error(error) is not None:
            return ""
        return "".join(traceback.format_exception(error)[-3:])
    return "" if fits(told) else f"another answer: {told[:200]}"


def call(words: Sequence[str]) -> str:
    """Call the command line; give what it answers, or raise what it refuses with."""
    from moiety.run.cli import main

    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main([str(word) for word in words])
    if code == 0:
        return out.getvalue()
    if code not in (1, 2):
        raise AssertionError(f"exit code {code}")
    raise ValueError(err.getvalue())


def play(tries: Sequence[Try], fits: Callable[[str, str], bool]) -> list[str]:
    """Do all tries; give what is wrong, a line each, with the name of the try."""
    bad: list[str] = []
    first = 0
    while first < len(tries):
        done = follow(tries, first, fits, bad)
        if done < len(tries):
            bad.append(f"{tries[done][0]}: hung or crashed")
        first = done + 1
    return bad


def follow(
    tries: Sequence[Try], first: int, fits: Callable[[str, str], bool], bad: list[str]
) -> int:
    """Do tries in a fork until one does not end; give its number, or how many there are."""
    with tempfile.TemporaryDirectory() as folder:
        told = Path(folder) / "told"
        told.touch()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # the child computes on one thread
            child = os.fork()
        if not child:
            work(tries[first:], fits, told)
        wait(child, told)
        lines = [json.loads(line) for line in told.read_text().splitlines()]
    bad += [
        f"{name}: {wrong}" for (name, _), wrong in zip(tries[first:], lines, strict=False) if wrong
    ]
    return first + len(lines)


def work(tries: Sequence[Try], fits: Callable[[str, str], bool], told: Path) -> None:
    """Do tries in the child, and never return."""
    try:
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, 2)
        with told.open("a") as file:
            for name, act in tries:
                wrong = judge(act, lambda answer, name=name: fits(name, answer))
                file.write(json.dumps(wrong) + "\n")
                file.flush()
        sys.stdout.flush()
    finally:
        os._exit(0)


def wait(child: int, told: Path) -> None:
    """Wait for a child; kill one that does not end a try any more."""
    size, last = 0, time.monotonic()
    while not os.waitpid(child, os.WNOHANG)[0]:
        if told.stat().st_size != size:
            size, last = told.stat().st_size, time.monotonic()
        if time.monotonic() - last > LAST_S:
            os.kill(child, 9)
            os.waitpid(child, 0)
            return
        time.sleep(0.01)
