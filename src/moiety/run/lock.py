"""A lock file: one process at a time holds it, and a dead one's is free.

The lock is the operating system's (``flock``) on a file that says who holds it; it ends with its
process, however that ends. Where the file system knows no such locks, or does not carry them from
one machine to another, signs of life tell: a holder touches its file.
"""

from __future__ import annotations

import json
import os
import shlex
import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from moiety.core.errors import RunError

try:
    import fcntl
except ImportError:  # a system without: its file systems know no such locks
    fcntl = None

BEAT_S = 20.0
STALE_S = 300.0
"""A holder of whom no lock tells counts as dead after so long without a sign of life."""


@dataclass(frozen=True)
class Holder:
    """Who holds a folder.

    Args:
        pid: number of the process.
        host: name of the machine.
        boot: what tells this start of the machine from others; empty where the system has nothing.
        since: when it was claimed, in UTC.
        command: what the process was called with.
    """

    pid: int
    host: str
    boot: str
    since: str
    command: str


def claim_lock(path: Path) -> int:
    """Claim a lock file and write down who holds it.

    Returns:
        The open file.

    Raises:
        RunError: if another process holds it.
    """
    while True:
        handle, made = open_lock(path)
        try:
            locked = check_free(handle, path, made=made)
        except RunError:
            os.close(handle)
            raise
        if not (locked or made):
            move_stale(handle, path)
        elif is_same_file(handle, path):
            write_holder(handle)
            return handle
        os.close(handle)


def refuse_held(path: Path) -> None:
    """Refuse a lock file that another process holds; change nothing."""
    with suppress(FileNotFoundError):
        handle = os.open(path, os.O_RDWR | os.O_NOFOLLOW)
        try:
            check_free(handle, path, made=False)
        finally:
            os.close(handle)


def open_lock(path: Path) -> tuple[int, bool]:
    """Open a lock file, and say whether it was made."""
    while True:
        with suppress(FileExistsError):
            return os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o644), True
        with suppress(FileNotFoundError):  # it was released in between
            return os.open(path, os.O_RDWR | os.O_NOFOLLOW), False


def check_free(handle: int, path: Path, *, made: bool) -> bool:
    """Lock an open file; False where there are no locks, and nobody alive left the file.

    Raises:
        RunError: if another process holds it.
    """
    locked = try_lock(handle)
    holder, age_s = read_holder(handle), time.time() - os.fstat(handle).st_mtime
    if locked is False or (not made and is_alive(holder, age_s, locks=bool(locked))):
        raise RunError(describe_holder(path.parent, holder, age_s))
    return bool(locked)


def try_lock(handle: int) -> bool | None:
    """Lock an open file; None where the system or file system knows no locks."""
    if fcntl is None:
        return None
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return None
    return True


def is_alive(holder: Holder | None, age_s: float, *, locks: bool) -> bool:
    """Say whether a holder that no lock speaks for is alive.

    Args:
        holder: who left the file; None where it cannot be read.
        age_s: seconds since its last sign of life.
        locks: whether locks of this machine's processes would be seen.
    """
    recent, here = age_s < STALE_S, describe_self()
    if holder is None:
        return recent and not locks
    if holder.boot == here.boot and (here.boot or holder.host == here.host):  # this machine
        if locks:
            return False
        return is_running(holder.pid) if holder.host == here.host else recent
    return recent and holder.host != here.host  # a machine of this name was started anew since


def is_running(pid: int) -> bool:
    """Say whether this machine has a process of this number."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def move_stale(handle: int, path: Path) -> None:
    """Move a dead process's file away; another's that came in between is put back."""
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    with suppress(FileNotFoundError, FileExistsError):
        path.rename(aside)
        if not is_same_file(handle, aside):
            os.link(aside, path)
    aside.unlink(missing_ok=True)


def is_same_file(handle: int, path: Path) -> bool:
    """Say whether an open file still has its name."""
    try:
        return os.path.samestat(os.fstat(handle), path.stat())
    except FileNotFoundError:
        return False


def release_lock(path: Path, handles: list[int]) -> None:
    """Take the lock file away and close it; nothing in a forked process, which has closed it."""
    if handles and is_same_file(handles[0], path):
        path.unlink()
    close_all(handles)


def close_all(handles: list[int]) -> None:
    """Close files; a forked process would hold the lock longer than its parent lives."""
    while handles:
        os.close(handles.pop())


@contextmanager
def give_signs_of_life(handle: int) -> Iterator[None]:
    """Touch an open file now and then, in a thread."""
    over = threading.Event()

    def beat() -> None:
        while not over.wait(BEAT_S):
            os.utime(handle)

    thread = threading.Thread(target=beat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def describe_self() -> Holder:
    """Describe this process."""
    boot = Path("/proc/sys/kernel/random/boot_id")
    return Holder(
        pid=os.getpid(),
        host=socket.gethostname(),
        boot=boot.read_text().strip() if boot.exists() else "",
        since=datetime.now(UTC).isoformat(timespec="seconds"),
        command=shlex.join(sys.orig_argv)[:500],
    )


def write_holder(handle: int) -> None:
    """Write down that this process holds an open lock file."""
    os.ftruncate(handle, 0)
    os.pwrite(handle, json.dumps(asdict(describe_self()), indent=2).encode() + b"\n", 0)


def read_holder(handle: int) -> Holder | None:
    """Read who holds an open lock file; None where nobody wrote it whole."""
    try:
        return Holder(**json.loads(os.pread(handle, 1 << 16, 0)))
    except (ValueError, TypeError):
        return None


def describe_holder(folder: Path, holder: Holder | None, age_s: float) -> str:
    """Say who holds a folder, and what to do."""
    if holder is None:
        return f"{folder} is in use by another process; wait until it ends, or choose another"
    elsewhere = holder.host != socket.gethostname()
    late = f"; where it is dead, the folder is free {STALE_S:.0f} s after that" if elsewhere else ""
    return (
        f"{folder} is in use by process {holder.pid} on {holder.host}, since {holder.since} (last "
        f"sign of life {max(0, age_s):.0f} s ago{late}): {holder.command}. Wait until it ends, "
        "stop it, or choose another folder"
    )
