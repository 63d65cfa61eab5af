"""A process that stays at a node between letters: Flower starts one for each, and torch is slow.

The app of a node passes a letter on by a socket in the node's folder, which only its owner can
open. The first letter starts the process; it ends when none has come for a while, and with the
process group of its SuperNode. What it keeps in memory can be made again, so whoever finds no such
process, or a broken one, answers the letter itself: the answer is the same.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path

from moiety.federation.node import NodeConfig, read_node

IDLE_S = 600.0
"""Seconds without a letter after which the process ends."""

START_S = 120.0
"""Seconds for which a process that was started is waited for."""

LONGEST = 100
"""Bytes of a path that a socket may have everywhere."""

LENGTH = 8
"""Bytes in which a length stands before what is sent."""


def answer_at_desk(node: NodeConfig, letter: bytes) -> bytes:
    """Answer a letter in this process."""
    from moiety.federation.desk import Desk  # torch: slow, and not for those who hand over

    return Desk(node).answer(letter)


def hand_over(node: NodeConfig, letter: bytes) -> bytes:
    """Let the process that stays answer a letter; answer it here where there is none."""
    if sys.platform == "win32":  # has neither such sockets nor such locks
        return answer_at_desk(node, letter)
    node.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    place = node.folder / "desk.sock"
    if len(os.fsencode(place)) > LONGEST or not start_resident(node.folder, place):
        return answer_at_desk(node, letter)
    try:
        with socket.socket(socket.AF_UNIX) as one:
            one.connect(str(place))
            told = {**asdict(node), "folder": str(node.folder)}
            send_block(one, json.dumps(told).encode())
            send_block(one, letter)
            answer = receive_block(one)
    except OSError:
        answer = b""
    return answer or answer_at_desk(node, letter)


def start_resident(folder: Path, place: Path) -> bool:
    """Start the process unless it is there; say whether it takes letters."""
    if can_connect(place):
        return True
    with (folder / "desk.log").open("ab") as log:
        started = subprocess.Popen(
            [sys.executable, "-m", "moiety.federation.resident", str(folder)],
            stdin=subprocess.DEVNULL, stdout=log, stderr=log,
        )  # fmt: skip
    until = time.monotonic() + START_S
    while time.monotonic() < until:
        if can_connect(place):
            return True
        if started.poll():  # 0: another was quicker
            return False
        time.sleep(0.05)
    return False


def can_connect(place: Path) -> bool:
    """Say whether somebody listens at a socket."""
    with socket.socket(socket.AF_UNIX) as one, suppress(OSError):
        one.connect(str(place))
        return True
    return False


def send_block(line: socket.socket, data: bytes) -> None:
    """Send bytes, with their number before them."""
    line.sendall(len(data).to_bytes(LENGTH, "little"))
    line.sendall(data)


def receive_block(line: socket.socket) -> bytes:
    """Receive what ``send_block`` sent; nothing where the line ends before.

    Raises:
        OSError: where it breaks.
    """
    size = int.from_bytes(receive_bytes(line, LENGTH), "little")
    return receive_bytes(line, size)


def receive_bytes(line: socket.socket, size: int) -> bytes:
    """Receive so many bytes, or none where the line ends before."""
    parts, left = [], size
    while left:
        part = line.recv(min(left, 1 << 20))
        if not part:
            return b""
        parts.append(part)
        left -= len(part)
    return b"".join(parts)


def stay(folder: Path, idle_s: float = IDLE_S) -> int:
    """Answer letters, one at a time, until none comes any more; the code to end with.

    Two at one folder would answer from one memory, so the second ends at once.
    """
    import fcntl  # not on Windows

    handle = os.open(folder / "desk.lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return 0
    import moiety.federation.desk  # noqa: F401  # before anybody is told that letters are taken

    place = folder / "desk.sock"
    place.unlink(missing_ok=True)
    with socket.socket(socket.AF_UNIX) as door:
        before = os.umask(0o177)
        door.bind(str(place))
        os.umask(before)
        door.listen()
        door.settimeout(idle_s)
        try:
            while True:
                line, _ = door.accept()
                with line, suppress(OSError):
                    line.settimeout(START_S)
                    answer_line(line)
        except TimeoutError:
            return 0
        finally:
            place.unlink(missing_ok=True)


def answer_line(line: socket.socket) -> None:
    """Answer the letter that comes over a line; nothing where none comes, or it is no job."""
    told = receive_block(line)
    if not told:
        return
    node = read_node(json.loads(told))
    letter = receive_block(line)
    with suppress(ValueError):  # bytes that are no job: who handed them over finds that out
        send_block(line, answer_at_desk(node, letter))


if __name__ == "__main__":
    sys.exit(stay(Path(sys.argv[1])))
