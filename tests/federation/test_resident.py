"""A process that stays at a node answers as the node itself does."""

import socket
import threading

import pytest

from moiety.federation import resident
from moiety.federation.node import NodeConfig
from tests.waiting import wait_until


@pytest.fixture
def told(monkeypatch):
    """Letters that were answered in this process, each with its node."""
    found = []

    def answer(node, letter):
        found.append((node, letter))
        if letter == b"no job":
            raise ValueError("these bytes are no letter")
        return b"answer to " + letter

    monkeypatch.setattr(resident, "answer_at_desk", answer)
    monkeypatch.setattr(resident, "start_resident", lambda _, place: resident.can_connect(place))
    return found


def open_desk(folder, idle_s):
    """Let a thread stay at a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    codes = []
    thread = threading.Thread(target=lambda: codes.append(resident.stay(folder, idle_s)))
    thread.start()
    return thread, codes


def test_letters_are_handed_over_and_it_ends_when_none_come(tmp_path, told):
    node, big = NodeConfig("north", "digits", tmp_path / "n"), b"x" * 3_000_000
    thread, codes = open_desk(node.folder, 1.0)
    wait_until(lambda: resident.can_connect(node.folder / "desk.sock"))
    assert resident.stay(node.folder) == 0  # a second one ends at once
    assert (node.folder / "desk.sock").stat().st_mode & 0o777 == 0o600
    with socket.socket(socket.AF_UNIX) as line:  # who hangs up in the middle harms nobody
        line.connect(str(node.folder / "desk.sock"))
        line.sendall(b"\0\1")
    assert resident.hand_over(node, big) == b"answer to " + big
    assert told == [(node, big)]
    with pytest.raises(ValueError, match="no letter"):
        resident.hand_over(node, b"no job")
    thread.join()
    assert codes == [0]
    assert not (node.folder / "desk.sock").exists()


@pytest.mark.parametrize("folder", ["n", "n" * 120])
def test_a_node_without_such_a_process_answers_itself(tmp_path, told, folder):
    node = NodeConfig("north", "digits", tmp_path / folder)
    assert resident.hand_over(node, b"letter") == b"answer to letter"
