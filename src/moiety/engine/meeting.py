"""How ranks come together: where each stands, and the store by which they find rank 0."""

from __future__ import annotations

import os
import secrets
import socket
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from moiety.core.errors import RunError, UsageError
from moiety.engine.agreement import describe_disagreement, name_ranks
from moiety.engine.heartbeat import Heartbeat, Line, accept_line, connect_line

TIMEOUT_VARIABLE, TIMEOUT_S = "MOIETY_RANKS_TIMEOUT_S", 120.0
"""What sets how long ranks wait for one that does not come or does not answer; by default."""

HELLO_S = 5.0
"""Seconds in which a rank that connects says who it is."""

WELCOME, REFUSED = "welcome", "refused"


@dataclass(frozen=True)
class RankPlace:
    """Where a rank stands, as ``torchrun`` or its starter by hand says in the environment.

    Args:
        rank: our number.
        size: how many ranks there are.
        host: of the store (MASTER_ADDR).
        port: of the store (MASTER_PORT).
        timeout_s: how long a rank may be silent.
    """

    rank: int
    size: int
    host: str
    port: int
    timeout_s: float

    @property
    def is_hosted(self) -> bool:
        """Whether torchrun keeps the store; otherwise rank 0 does."""
        return os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"


def read_place() -> RankPlace:
    """Read where this process stands.

    Raises:
        UsageError: for a number that is none, or does not fit.
    """
    size = read_number("WORLD_SIZE", int, 1)
    rank, port = read_number("RANK", int, 0), 0
    if rank >= size:
        raise UsageError(f"RANK={rank}, but WORLD_SIZE={size}; ranks are numbered from 0")
    if size > 1:
        port = read_number("MASTER_PORT", int, 1)
    timeout_s = TIMEOUT_S
    if TIMEOUT_VARIABLE in os.environ:
        timeout_s = read_number(TIMEOUT_VARIABLE, float, 1.0)
    return RankPlace(rank, size, os.environ.get("MASTER_ADDR", "127.0.0.1"), port, timeout_s)


def is_first_here() -> bool:
    """Say whether we are the first that torchrun started on this machine; whoever it did not is."""
    return "TORCHELASTIC_RUN_ID" not in os.environ or os.environ.get("LOCAL_RANK", "0") == "0"


def read_number(name: str, kind: Callable[[str], Any], least: float) -> Any:
    """Read a number from the environment."""
    text = os.environ.get(name, "")
    try:
        value = kind(text)
    except ValueError:
        value = least - 1
    if not least <= value < float("inf"):
        raise UsageError(f"{name}={text!r} in the environment; set a number from {least:g} on")
    return value


def call_within(seconds: float, call: Callable[[], Any]) -> Any:
    """Call something that may never come back; it is left alone after so many seconds.

    Raises:
        TimeoutError: if it did not come back.
    """
    box: list[tuple[Any, Exception | None]] = []

    def work() -> None:
        try:
            box.append((call(), None))
        except Exception as error:
            box.append((None, error))

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(seconds)
    if not box:
        raise TimeoutError(f"no answer within {seconds:g} s")
    value, error = box[0]
    if error is not None:
        raise error
    return value


def wait_for_port(place: RankPlace, end: float) -> None:
    """Wait until somebody listens where the store is.

    Raises:
        RunError: if nobody does until ``end``, by the monotonic clock.
    """
    while True:
        try:
            socket.create_connection((place.host, place.port), 5).close()
        except OSError as error:
            if time.monotonic() > end:
                raise RunError(
                    f"rank 0 is missing: nobody answers at {place.host}:{place.port} within "
                    f"{place.timeout_s:g} s ({error}); start all {place.size} ranks with the same "
                    f"MASTER_ADDR and MASTER_PORT, or give them longer: {TIMEOUT_VARIABLE}"
                ) from error
            time.sleep(0.1)
        else:
            return


def name_first_line(error: BaseException) -> str:
    """Give the first line of what an error says; C++ adds its stack to some."""
    return (str(error) or type(error).__name__).splitlines()[0]


def find_own_host(place: RankPlace) -> str:
    """Find by which address other machines reach this one: that of the way to the store."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
        try:
            one.connect((place.host, place.port))
            own = one.getsockname()[0]
        except OSError:
            return place.host
    return place.host if own.startswith("127.") else own


def meet_ranks(
    place: RankPlace,
    publish: Callable[[str], object],
    look_up: Callable[[], str],
    about: Mapping[str, Any],
) -> Heartbeat:
    """Meet all other ranks, and agree that all of them are to play the same.

    Args:
        place: where we stand.
        publish: tells the others a text; of rank 0.
        look_up: gives the text that rank 0 published.
        about: what we will play, by field, as plain data.

    Raises:
        RunError: at every rank, if one does not come in time or plays something else.
    """
    if place.rank == 0:
        return Heartbeat(0, place.timeout_s, gather_lines(place, publish, about))
    host, port, word = call_within(place.timeout_s, look_up).split()
    hello = {"rank": place.rank, "size": place.size, "about": about}
    line = connect_line(host, int(port), place.timeout_s, hello, word)
    line.sock.settimeout(place.timeout_s + HELLO_S)
    told: list[list[Any]] | None = []
    while told == []:
        told = line.hear()
    if told is None:
        raise RunError(
            f"rank 0 was lost, or does not answer, before all {place.size} ranks had joined; "
            "nothing was written: start all ranks anew"
        )
    if told[0][0] == REFUSED:
        raise RunError(told[0][1])
    line.sock.settimeout(place.timeout_s)
    heartbeat = Heartbeat(place.rank, place.timeout_s, {0: line})
    heartbeat.take(0, told[1:])
    return heartbeat


def gather_lines(
    place: RankPlace, publish: Callable[[str], object], about: Mapping[str, Any]
) -> dict[int, Line]:
    """Take in all others, compare what they will play, and tell them whether it goes on."""
    lines: dict[int, Line] = {}
    abouts = {0: about}
    with open_hub(place) as server:
        word = secrets.token_hex(16)
        publish(f"{find_own_host(place)} {server.getsockname()[1]} {word}")
        wrong = take_in(place, server, word, lines, abouts)
    wrong = wrong or describe_disagreement([abouts[rank] for rank in sorted(abouts)])
    for line in lines.values():
        line.say(*((REFUSED, wrong) if wrong else (WELCOME,)))
    if wrong:
        raise RunError(wrong)
    return lines


def open_hub(place: RankPlace) -> socket.socket:
    """Listen for the other ranks."""
    only_here = place.host in ("localhost", "127.0.0.1")
    server = socket.create_server(("127.0.0.1" if only_here else "", 0), backlog=place.size)
    server.settimeout(0.1)
    return server


def take_in(
    place: RankPlace,
    server: socket.socket,
    word: str,
    lines: dict[int, Line],
    abouts: dict[int, Mapping[str, Any]],
) -> str:
    """Wait for all others; what is wrong, or an empty text."""
    end = time.monotonic() + place.timeout_s
    while len(lines) + 1 < place.size:
        try:
            came = accept_line(server, word, HELLO_S)
        except TimeoutError:
            missing = [rank for rank in range(1, place.size) if rank not in lines]
            if time.monotonic() > end:
                return (
                    f"{len(lines) + 1} of {place.size} ranks joined within {place.timeout_s:g} s; "
                    f"missing: {name_ranks(missing)}; nothing was written: start all ranks anew, "
                    f"or give them longer: {TIMEOUT_VARIABLE}"
                )
            continue
        if came is None:
            continue
        line, hello = came
        rank, size = hello["rank"], hello["size"]
        if size != place.size or rank in lines or rank == 0:
            line.say(REFUSED, wrong := describe_stranger(place, rank, size))
            return wrong
        lines[rank], abouts[rank] = line, hello["about"]
    return ""


def describe_stranger(place: RankPlace, rank: int, size: int) -> str:
    """Say what is wrong with a rank that does not fit among the others."""
    if size != place.size:
        return (
            f"the ranks disagree on WORLD_SIZE: {place.size} at rank 0, {size} at rank {rank}; "
            "start every rank with the same number"
        )
    return f"two processes say RANK={rank}; number the ranks from 0 to {place.size - 1}, each once"
