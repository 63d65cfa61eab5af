"""A deployment of Flower on this machine: a SuperLink and SuperNodes that can be killed.

``MOIETY_FLOWER`` names the Python that has Flower and what moiety needs; without it this one must
have it. Everything is written below one folder, and only processes that were started here are
ended.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import moiety

VARIABLE = "MOIETY_FLOWER"
LAST_S = 600.0
"""Seconds after which whatever is waited for here is given up."""

REVIVE_S = 10.0
"""Seconds between two starts of a node."""

NO_KEY = Path("no key")

NEEDS = "import flwr.app, torch, sklearn, safetensors, tyro, tqdm"


def find_flower() -> Path:
    """Find a Python that has Flower.

    Raises:
        RuntimeError: where there is none, with the remedy.
    """
    path = Path(os.environ.get(VARIABLE) or sys.executable)
    link = path.parent / "flower-superlink"
    if not link.is_file() or subprocess.run([path, "-c", NEEDS], capture_output=True).returncode:
        raise RuntimeError(
            f"{path} has no Flower beside what moiety needs; pip install '.[data,flower]', or name "
            f"the Python of an environment that has both in {VARIABLE}"
        )
    return path


def find_port() -> int:
    """Find a port of this machine that is free."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def wait_for(what: Callable[[], bool], told: str, last_s: float = LAST_S) -> None:
    """Wait until something is so.

    Raises:
        TimeoutError: if it is not so in the end.
    """
    until = time.monotonic() + last_s
    while not what():
        if time.monotonic() > until:
            raise TimeoutError(f"not so after {last_s:g} s: {told}")
        time.sleep(0.1)


@dataclass
class Deployment:
    """A SuperLink and its SuperNodes.

    Args:
        folder: of all that they write.
        python: that has Flower.
        keys: folder of ``moiety flower certs``, for TLS and keys of nodes; None for neither.
        data: node -> what it reads; "digits" for those that are not named.
        extra: environment of what is started next, besides.
        simulated: how many nodes the link simulates itself; 0 for a deployment.
        port: of the link.
        running: name -> process.
        starts: name -> how often it was started.
        began: name -> when it was started last.
    """

    folder: Path
    python: Path
    keys: Path | None = None
    data: Mapping[str, str] = field(default_factory=dict)
    extra: Mapping[str, str] = field(default_factory=dict)
    simulated: int = 0
    port: int = field(default_factory=find_port)
    running: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    starts: dict[str, int] = field(default_factory=dict)
    began: dict[str, float] = field(default_factory=dict)

    @property
    def environment(self) -> dict[str, str]:
        """Say what all processes are given."""
        source = Path(moiety.__file__).parents[1]
        roots = os.pathsep.join(map(str, (source, Path(__file__).parents[2])))
        path = f"{self.python.parent}{os.pathsep}{os.environ['PATH']}"
        home = {"FLWR_HOME": str(self.folder / "flwr"), "PATH": path, "PYTHONPATH": roots}
        quiet = {"OMP_NUM_THREADS": "1", "FLWR_TELEMETRY_ENABLED": "0", "NO_COLOR": "1"}
        return {**os.environ, **home, **quiet, **self.extra}

    def start(self, name: str, *words: str) -> None:
        """Start a process of Flower, with a log of its own for each start."""
        self.began[name] = time.monotonic()
        count = self.starts[name] = self.starts.get(name, 0) + 1
        with (self.folder / f"{name}-{count}.log").open("wb") as log:
            self.running[name] = subprocess.Popen(
                [self.python.parent / words[0], *words[1:]], env=self.environment, stdout=log,
                stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, start_new_session=True,
            )  # fmt: skip

    def read_log(self, name: str) -> str:
        """Read what a process said since its last start."""
        path = self.folder / f"{name}-{self.starts[name]}.log"
        return path.read_text(encoding="utf8", errors="replace")

    def start_link(self) -> None:
        """Start the SuperLink, and wait until it listens."""
        (self.folder / "flwr").mkdir(parents=True, exist_ok=True)
        (self.folder / "flwr" / "config.toml").write_text(self.write_connection())
        words = ["--insecure", "--simulation"] if self.simulated else ["--insecure"]
        if self.keys is not None:
            words = [
                "--ssl-ca-certfile", str(self.keys / "ca.crt"),
                "--ssl-certfile", str(self.keys / "server.pem"),
                "--ssl-keyfile", str(self.keys / "server.key"), "--enable-supernode-auth",
            ]  # fmt: skip
        self.start(
            "link", "flower-superlink", *words, "--disable-runtime-dependency-installation",
            "--host", "127.0.0.1", "--port", str(self.port),
            "--database", str(self.folder / "link.db"),
        )  # fmt: skip
        wait_for(self.listens, f"the link listens on port {self.port}:\n{self.read_log('link')}")

    def write_connection(self) -> str:
        """Write the connection that ``flwr run`` uses."""
        tls = "insecure = true"
        if self.simulated:
            tls += f"\noptions.num-supernodes = {self.simulated}"
        if self.keys is not None:
            tls = f"root-certificates = {json.dumps(str(self.keys / 'ca.crt'))}"
        return (
            '[superlink]\ndefault = "local"\n\n[superlink.local]\n'
            f'address = "127.0.0.1:{self.port}"\n{tls}\n'
        )

    def listens(self) -> bool:
        """Say whether the link listens."""
        if self.running["link"].poll() is not None:
            raise RuntimeError(f"the link ended:\n{self.read_log('link')}")
        with suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1.0):
            return True
        return False

    def register(self, name: str) -> None:
        """Tell the link a node's public key, and its name."""
        assert self.keys is not None
        self.call("supernode", "register", str(self.keys / f"{name}.pub"), "local", "--name", name)

    def start_node(self, name: str, *, key: Path | None = None, root: Path | None = None) -> None:
        """Start a SuperNode.

        Args:
            name: of the node.
            key: private key, of its own by default; ``NO_KEY`` for none.
            root: certificate of the authority that it trusts, the right one by default.
        """
        folder = self.folder / "nodes" / name
        words = ["--insecure"]
        if self.keys is not None:
            words = ["--root-certificates", str(root or self.keys / "ca.crt")]
            if key != NO_KEY:
                words += ["--auth-supernode-private-key", str(key or self.keys / f"{name}.key")]
        told = {"name": name, "data": self.data.get(name, "digits"), "folder": str(folder)}
        config = " ".join(f"{key}={json.dumps(value)}" for key, value in told.items())
        self.start(
            name, "flower-supernode", *words, "--superlink", f"127.0.0.1:{self.port}",
            "--port", str(find_port()), "--node-config", config,
        )  # fmt: skip

    def revive(self, names: Sequence[str]) -> None:
        """Start nodes again that ended by themselves, as a service manager does.

        A node that was killed is refused under its key until the link has noticed, for a minute.
        """
        for name in names:
            last = self.began.get(name, 0.0)
            if self.running[name].poll() is not None and time.monotonic() - last > REVIVE_S:
                self.start_node(name)

    def call(self, *words: str) -> str:
        """Call ``flwr``.

        Raises:
            RuntimeError: if it fails, with what it said.
        """
        said = subprocess.run(
            [self.python.parent / "flwr", *words], env=self.environment, capture_output=True,
            text=True, timeout=LAST_S, stdin=subprocess.DEVNULL,
        )  # fmt: skip
        if said.returncode:
            raise RuntimeError(f"flwr {' '.join(words)}: {said.stdout}{said.stderr}")
        return said.stdout

    def submit(self, app: Path) -> str:
        """Start an app's run; give its number.

        Raises:
            RuntimeError: where Flower refuses it, which ``flwr`` says in its answer alone.
        """
        told = json.loads(self.call("run", str(app), "local", "--format", "json"))
        if not told["success"]:
            raise RuntimeError(f"flwr run {app}: {told['error-message']}")
        return told["run-id"]

    def signal(self, name: str, number: int) -> None:
        """Send a signal to a process and all that it started."""
        with suppress(ProcessLookupError):
            os.killpg(self.running[name].pid, number)

    def kill(self, name: str) -> None:
        """Kill a process and all that it started, without warning."""
        self.signal(name, signal.SIGCONT)
        self.signal(name, signal.SIGKILL)
        self.running.pop(name).wait()

    def close(self) -> None:
        """End all that is running."""
        for name in list(self.running):
            self.kill(name)


def read_entries(run: Path) -> list[dict[str, Any]]:
    """Read the lines of a ledger that is being written, but for one that is not whole yet."""
    path, found = run / "ledger.jsonl", []
    for line in path.read_text(encoding="utf8").splitlines() if path.is_file() else ():
        with suppress(ValueError):
            found.append(json.loads(line))
    return found


def has_ended(run: Path) -> bool:
    """Say whether a run has ended, well or not."""
    return any(entry["kind"] == "end" for entry in read_entries(run))


def count_rounds(run: Path) -> int:
    """Count the rounds that a run has played."""
    return sum(entry["kind"] == "round" for entry in read_entries(run))


def kill_server(run: Path) -> int:
    """Kill the process that plays a run; give its number."""
    pid = int(json.loads((run / "lock.json").read_text(encoding="utf8"))["pid"])
    os.kill(pid, signal.SIGKILL)
    return pid


def write_app(app: Path, workers: Sequence[str], *words: str) -> Path:
    """Write an app by ``moiety flower new``; give the folder of its run."""
    from moiety.run.cli import main

    if main(["flower", "new", str(app), "--workers", *workers, *words]):
        raise RuntimeError(f"no app was written to {app}")
    return app / "run"
