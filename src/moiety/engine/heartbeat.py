"""Signs of life among ranks: each tells rank 0, and rank 0 tells each.

A thread of every process sends a line a few times within the time that a rank may be silent. So a
rank that computes for hours is alive, one whose process stands still, is killed or lost its
machine is not. Rank 0 tells all others who was lost. Nothing is unpickled.
"""

from __future__ import annotations

import json
import os
import select
import socket
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

BEATS, TICK_S, GRACE_S, LONGEST_LINE = 12, 0.1, 10.0, 1 << 20
"""Lines sent within the time allowed; seconds between looks; seconds that the main thread has to
end by itself after a loss; bytes of a line."""

BEAT, LEFT, ENDED, LOST = "beat", "left", "ended", "lost"

ENDING = "rank {} ended: {}"
"""How the end of a rank that said why is told."""


@dataclass
class Line:
    """A connection to another rank; what is said is lines of JSON.

    Args:
        sock: the socket.
        heard: when something came last, by the monotonic clock.
        rest: what came of a line that is not whole yet.
    """

    sock: socket.socket
    heard: float = field(default_factory=time.monotonic)
    rest: bytes = b""

    def say(self, *words: Any) -> None:
        """Send a line; a rank that cannot hear it is noticed by its silence."""
        with suppress(OSError):
            self.sock.sendall(json.dumps(words).encode() + b"\n")

    def hear(self) -> list[list[Any]] | None:
        """Take what has come; None where the other has closed, or speaks no such lines."""
        try:
            data = self.sock.recv(1 << 16)
        except OSError:
            data = b""
        self.rest += data
        *whole, self.rest = self.rest.split(b"\n")
        try:
            told = [json.loads(line) for line in whole]
        except ValueError:
            return None
        speaks = all(isinstance(one, list) and one for one in told)
        if not data or not speaks or len(self.rest) > LONGEST_LINE:
            return None
        self.heard = time.monotonic()
        return told


@dataclass
class Heartbeat:
    """Tells the others that we live, and notices who does not.

    Args:
        rank: ours.
        timeout_s: how long a rank may be silent.
        lines: rank 0's to every other, another's to rank 0 alone.
        lost: who was lost and how; empty while all are there.
    """

    rank: int
    timeout_s: float
    lines: dict[int, Line]
    lost: str = ""
    stopped: threading.Event = field(default_factory=threading.Event)
    noticed: threading.Event = field(default_factory=threading.Event)
    lock: threading.RLock = field(default_factory=threading.RLock)
    thread: threading.Thread | None = None

    def start(self, give_up: Callable[[str], None]) -> None:
        """Begin.

        Args:
            give_up: is called by the thread with who was lost, where the main thread does not end
                within a grace: it waits for a rank that will never answer.
        """
        for line in self.lines.values():
            line.sock.settimeout(self.timeout_s)
        self.thread = threading.Thread(target=self.watch, args=(give_up,), daemon=True)
        self.thread.start()

    def watch(self, give_up: Callable[[str], None]) -> None:
        """Beat and listen until we stop, or are to give up."""
        next_beat, end = 0.0, float("inf")
        while not self.stopped.wait(TICK_S):
            now = time.monotonic()
            if now >= next_beat:
                next_beat = now + self.timeout_s / BEATS
                self.tell(BEAT)
            self.listen()
            if self.lost:
                end = min(end, now + GRACE_S)
            if now > end:
                give_up(self.lost)
                return

    def tell(self, *words: Any) -> None:
        """Say something to all that we have a line to."""
        with self.lock:
            for line in self.lines.values():
                line.say(*words)

    def listen(self) -> None:
        """Take what has come, then look who was silent for too long.

        In this order, for what came while our own process stood still counts.
        """
        with self.lock:
            socks = {line.sock: rank for rank, line in self.lines.items()}
            for sock in select.select(list(socks), [], [], 0)[0]:
                self.take(socks[sock], self.lines[socks[sock]].hear())
            for rank, line in list(self.lines.items()):
                if time.monotonic() - line.heard > self.timeout_s:
                    self.lose(rank, f"rank {rank} has not answered for {self.timeout_s:g} s")

    def take(self, rank: int, told: list[list[Any]] | None) -> None:
        """Note what a rank says."""
        if told is None:
            self.lose(rank, f"rank {rank} ended without a word")
            return
        for kind, *rest in told:
            if kind == LEFT:
                self.lines.pop(rank, None)
            elif kind == ENDED:
                self.lose(rank, ENDING.format(rank, rest[0]))
            elif kind == LOST:
                self.lose(rank, rest[0])

    def lose(self, rank: int, how: str) -> None:
        """Note the first loss, and tell the others."""
        line = self.lines.pop(rank, None)
        if line is not None:
            line.sock.close()
        if not self.lost:
            self.lost = how
            self.tell(LOST, how)
            self.noticed.set()

    def wait_for_loss(self, seconds: float) -> str:
        """Wait a moment for the name of who was lost; empty where nobody was."""
        self.noticed.wait(seconds)
        return self.lost

    def ends_alike(self, reason: str, seconds: float) -> bool:
        """Wait a moment for rank 0 to end for the same reason, and say whether it did."""
        return self.wait_for_loss(seconds) == ENDING.format(0, reason)

    def stop(self, reason: str = "") -> None:
        """Leave the others; with a reason where we end before the work is done."""
        self.stopped.set()
        if self.thread is not None:
            self.thread.join(self.timeout_s)
        self.tell(ENDED if reason else LEFT, self.lost or reason)
        for line in self.lines.values():
            line.sock.close()
        self.lines.clear()


def end_process(text: str) -> None:
    """Say why, and end the process at once: its main thread waits in C++ and hears nothing."""
    os.write(2, f"moiety: {text}\n".encode())
    os._exit(1)


def accept_line(server: socket.socket, word: str, seconds: float) -> tuple[Line, Any] | None:
    """Accept a rank that knows the word; None for whoever does not."""
    sock, _ = server.accept()
    sock.settimeout(seconds)
    line, end = Line(sock), time.monotonic() + seconds
    told: list[list[Any]] | None = []
    while told == [] and time.monotonic() < end:
        told = line.hear()
    if not told or told[0][0] != word:
        sock.close()
        return None
    return line, told[0][1]


def connect_line(host: str, port: int, seconds: float, hello: Mapping[str, Any], word: str) -> Line:
    """Connect to rank 0, and say who we are."""
    sock = socket.create_connection((host, port), seconds)
    sock.settimeout(seconds)
    line = Line(sock)
    line.say(word, hello)
    return line
