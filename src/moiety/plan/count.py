"""What a round of parts costs: numbers, operations, memory, bytes, seconds.

Formulas alone, over widths and counts; no tensor is made. A multiply-add counts as 2 operations.
The letters are those of the literature on independent subnets (arXiv:1910.02120): n workers, H
local steps, B rows a step, P numbers of the whole, P_s numbers of a piece, b bytes of a number.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

ACTIVATIONS = 3
"""Numbers kept per hidden unit and row for the backward pass: before the norm, after, after ReLU.

Where a norm and its ReLU keep one number between them, as torch's do, 2 is exact.
"""

STATISTICAL: Mapping[int, Sequence[tuple[int, float, float]]] = {
    20: ((1, 1.0, 1.0), (2, 1.7, 2.0), (4, 2.0, 4.0), (8, 3.5, 12.0)),
    80: ((1, 1.0, 1.0), (2, 1.0, 1.8), (4, 1.0, 3.7), (8, 1.5, 5.3)),
}
"""Local steps of a round -> workers, and local steps of independent subnets over those of local
SGD, to an accuracy that is moderate (0.83) and to one that is near the end (0.85).

Measured on a perceptron 784-512-512-10 and 12,000 rows of Fashion-MNIST, medians of three seeds
(``python -m benchmarks.ist_steps``): an assumption for anything else.
"""


def count_matrix_weights(widths: Sequence[int]) -> int:
    """Count the weights of a perceptron's matrices.

    >>> count_matrix_weights((784, 512, 512, 10))
    668672
    """
    return sum(ins * outs for ins, outs in pairwise(widths))


def count_perceptron(widths: Sequence[int], *, out_bias: bool = False) -> int:
    """Count the numbers of a normed perceptron without biases: matrices, scales and shifts.

    A piece of it is a perceptron of the subnets' sizes, so this counts P and P_s alike.

    Args:
        widths: inputs, hidden units (or those of a subnet) of each layer, classes.
        out_bias: whether the output has a bias.

    >>> count_perceptron((784, 512, 512, 10)), count_perceptron((784, 128, 128, 10))
    (670720, 118528)
    """
    return count_matrix_weights(widths) + 2 * sum(widths[1:-1]) + out_bias * widths[-1]


def narrow_widths(widths: Sequence[int], num: int) -> tuple[int, ...]:
    """Give the widths of the largest piece when ``num`` workers share every hidden layer."""
    return (widths[0], *(-(-width // num) for width in widths[1:-1]), widths[-1])


def count_partly_shared(shared: float, dealt: float, share: float) -> float:
    """Count the numbers of a piece: what is shared, a share of what is assigned (ResIST, LoFT)."""
    return shared + dealt * share


def count_sage(inputs: int, hidden: int, classes: int, layers: int, num: int) -> int:
    """Count the numbers of a piece of GraphSAGE: two matrices a layer, biases (arXiv:2102.10424).

    >>> count_sage(100, 4096, 47, 1, 8)
    151087
    """
    mine = hidden // num
    between = (layers - 1) * 2 * mine**2
    return 2 * inputs * mine + between + 2 * mine * classes + layers * mine + classes


def count_gcn(widths: Sequence[int]) -> int:
    """Count the numbers of a graph network of one matrix a layer, or of a piece, with biases.

    >>> count_gcn((512, 256, 256, 7)), count_gcn((512, 64, 64, 7))
    (198919, 37447)
    """
    return count_matrix_weights(widths) + sum(widths[1:])


def count_graph_flops(widths: Sequence[int], nodes: int, links: int, halves: int = 1) -> int:
    """Count the operations of a graph network's step: dense products, and sparse ones.

    A sparse product takes a multiply-add for each link and column, once forwards and once back.

    Args:
        widths: inputs, hidden features (or those of a subnet), classes.
        nodes: of the batch.
        links: between them, both ways, and self-loops where the layer has them.
        halves: matrices of a layer: 1 of a GCN, 2 of GraphSAGE, which applies links to one.

    >>> count_graph_flops((3, 2, 1), 5, 4) == count_perceptron_flops((3, 2, 1), 5) + 4 * 4 * (2 + 1)
    True
    """
    return halves * count_perceptron_flops(widths, nodes) + 4 * links * sum(widths[1:])


def count_transformer_block(width: int) -> int:
    """Count the assigned numbers of a transformer's block: heads, units, their biases, no norms."""
    return 12 * width**2 + 7 * width


def count_perceptron_flops(widths: Sequence[int], batch: int) -> int:
    """Count the operations of a step's matrix products; the inputs need no gradient.

    Norms are left out, here and by torch's counter.

    >>> count_perceptron_flops((3, 2, 1), 5) == 6 * 5 * (3 * 2 + 2 * 1) - 2 * 5 * 3 * 2
    True
    """
    return 6 * batch * count_matrix_weights(widths) - 2 * batch * widths[0] * widths[1]


def count_step_memory(
    size: int, slots: int, kept: int, *, item: int = 4, inputs: int = 0, pieces: int = 2
) -> int:
    """Give the bytes of a worker's step: weights, gradients, optimiser, what backward needs.

    Args:
        size: numbers of the piece, P_s.
        slots: numbers that the optimiser keeps per weight: 0 SGD, 1 momentum, 2 Adam.
        kept: numbers kept for the backward pass; for a perceptron see
            ``count_perceptron_activations``.
        item: bytes of a number.
        inputs: bytes of the batch.
        pieces: copies of the weights besides the optimiser's: weights and gradients.
    """
    return item * ((pieces + slots) * size + kept) + inputs


def count_perceptron_activations(
    widths: Sequence[int], batch: int, activations: int = ACTIVATIONS
) -> int:
    """Count the numbers kept for the backward pass of a perceptron, without its inputs."""
    return batch * (activations * sum(widths[1:-1]) + widths[-1])


@dataclass(frozen=True)
class Traffic:
    """Bytes of a round.

    Args:
        out: of a worker.
        into: a worker.
        total: of all workers, both ways.
        busiest: over the busiest link, the way that carries more.
        waited: over it one after the other, for pieces go down before they come up.
    """

    out: float
    into: float
    total: float
    busiest: float
    waited: float


def count_server_traffic(pieces: Sequence[int], back: Sequence[int] | None = None) -> Traffic:
    """Count pieces that a server sends and gets back; what the ledger counts.

    Args:
        pieces: bytes down to each worker.
        back: bytes up from each; as many by default.

    >>> count_server_traffic([6, 4]).total, count_server_traffic([6, 4]).busiest
    (20, 10)
    """
    back = pieces if back is None else back
    down, up = sum(pieces), sum(back)
    return Traffic(max(back), max(pieces), down + up, max(down, up), down + up)


def count_central_traffic(pieces: Sequence[int], back: Sequence[int] | None = None) -> Traffic:
    """Count like ``count_server_traffic``; the first worker, the server, sends itself nothing."""
    back = pieces if back is None else back
    if len(pieces) == 1:
        return Traffic(0, 0, 0, 0, 0)
    return count_server_traffic(pieces[1:], back[1:])


def count_ring_traffic(pieces: Sequence[int], back: Sequence[int] | None = None) -> Traffic:
    """Count pieces gathered from, and given back to, workers that store 1/n of the model each.

    For whole models this is a ring all-reduce: 2 (n - 1) / n of a model each way.

    >>> count_ring_traffic([8, 8, 8, 8]).out, count_ring_traffic([8, 8, 8, 8]).total
    (12.0, 48.0)
    """
    num = len(pieces)
    sizes = pieces if back is None else [(a + b) / 2 for a, b in zip(pieces, back, strict=True)]
    each = 2 * (num - 1) / num * sum(sizes) / num
    return Traffic(each, each, num * each, each, each)


LAYOUTS = {
    "server": count_server_traffic,
    "central": count_central_traffic,
    "ring": count_ring_traffic,
}
"""Who sends what: through a server, through a worker that is one, or evenly by all."""


@dataclass(frozen=True)
class Link:
    """A link: megabits a second, and milliseconds until the first byte arrives."""

    mbit: float = 100.0
    latency_ms: float = 1.0

    def __post_init__(self) -> None:
        if not self.mbit > 0 or not 0 <= self.latency_ms < math.inf:
            raise ValueError(f"{self}: choose a rate above 0 and a latency of at least 0, finite")

    def seconds(self, sent: float) -> float:
        """Give the seconds of a round's two exchanges: nothing where nothing is sent."""
        return 2 * self.latency_ms / 1e3 + sent * 8 / (self.mbit * 1e6) if sent else 0.0


def interpolate_statistical_cost(num: int, steps: int) -> tuple[float, float]:
    """Give the statistical cost, moderate and near the end, by lines in the logarithms.

    Args:
        num: workers.
        steps: local steps of a round; outside of what was measured, the nearest counts.

    >>> interpolate_statistical_cost(4, 20), interpolate_statistical_cost(1, 20)
    ((2.0, 4.0), (1.0, 1.0))
    """
    few, many = sorted(STATISTICAL)
    place = math.log(min(max(steps, few), many) / few) / math.log(many / few)
    ends = zip(
        interpolate_by_workers(STATISTICAL[few], num),
        interpolate_by_workers(STATISTICAL[many], num),
        strict=True,
    )
    moderate, late = (a * (b / a) ** place for a, b in ends)
    return moderate, late


def interpolate_by_workers(
    table: Sequence[tuple[int, float, float]], num: int
) -> tuple[float, float]:
    """Read a table between, and beyond, its numbers of workers."""
    points = list(pairwise(table))
    low, high = next((pair for pair in points if num <= pair[1][0]), points[-1])
    place = math.log(num / low[0]) / math.log(high[0] / low[0])
    moderate, late = (a * (b / a) ** place for a, b in zip(low[1:], high[1:], strict=True))
    return moderate, late
