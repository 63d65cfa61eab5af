"""The engines by name, and what each is for."""

from collections.abc import Mapping

ENGINES: Mapping[str, str] = {
    "serial": "one worker after the other, one step after the other: the definition of right",
    "vectorized": "workers of equal shape stacked and stepped at once: small parts, and GPUs",
    "pool": "workers spread over the cores, each stepping in place: wide parts and convolutions",
    "collective": "workers spread over the processes of torchrun, on one machine or several",
    "partitioned": "the same, and no process ever has the whole: ist on normed, gist on graph nets",
    "peers": "the same, and subnets pass straight from worker to worker: fewer bytes",
    "flower": "workers are nodes of Flower, each at its own data: see moiety flower new",
}
