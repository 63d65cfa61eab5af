"""A graph cut into connected clusters of like size, once and without any draw.

Clusters grow breadth first to an exact size, then nodes on a border move to where most of their
neighbours are. It takes the place of METIS (Karypis and Kumar 1998), which is no dependency here;
it cuts more edges, and any other assignment may be given instead.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Sequence

import torch
from torch import Tensor

SLACK = 0.1
"""By how much of its fair size a cluster may grow or shrink when nodes move."""


def cut_clusters(edges: Tensor, size: int, count: int, *, sweeps: int = 3) -> Tensor:
    """Cut a graph.

    Args:
        edges: both ways, [2, E].
        size: number of nodes.
        count: number of clusters.
        sweeps: times that every node may move.

    Returns:
        The cluster of each node, [N].

    Raises:
        ValueError: if there are not as many nodes as clusters.

    >>> chain = torch.tensor([[0, 1, 1, 2, 2, 3], [1, 0, 2, 1, 3, 2]])
    >>> cut_clusters(chain, 4, 2).tolist()
    [0, 0, 1, 1]
    """
    if not 1 <= count <= size:
        raise ValueError(f"clusters={count} of {size} nodes; choose 1 to {size}")
    if count == 1:
        return torch.zeros(size, dtype=torch.int64)
    near = list_neighbours(edges, size)
    owner = grow_clusters(near, [size // count + (place < size % count) for place in range(count)])
    for _ in range(sweeps):
        refine_clusters(near, owner, count)
    return torch.tensor(owner)


def list_neighbours(edges: Tensor, size: int) -> list[list[int]]:
    """List the neighbours of each node, in order."""
    near: list[list[int]] = [[] for _ in range(size)]
    for one, other in edges.T.tolist():
        near[one].append(other)
    return [sorted(some) for some in near]


def grow_clusters(near: Sequence[Sequence[int]], sizes: Sequence[int]) -> list[int]:
    """Fill clusters one after the other, breadth first, each from the border of those before."""
    owner = [-1] * len(near)
    border: deque[int] = deque()
    unseen = 0
    for place, size in enumerate(sizes):
        queue: deque[int] = deque()
        left = size
        while left:
            while queue and owner[queue[0]] >= 0:
                queue.popleft()
            while not queue and border and owner[border[0]] >= 0:
                border.popleft()
            if not queue and border:
                queue.append(border.popleft())
            while not queue:
                if owner[unseen] < 0:
                    queue.append(unseen)
                unseen += owner[unseen] >= 0
            node = queue.popleft()
            owner[node] = place
            left -= 1
            queue.extend(one for one in near[node] if owner[one] < 0)
        border = deque([*queue, *border])
    return owner


def refine_clusters(near: Sequence[Sequence[int]], owner: list[int], count: int) -> None:
    """Move each node, in place, to the cluster of most of its neighbours, where there is room."""
    fair = len(owner) / count
    low, high = int(fair * (1 - SLACK)), int(fair * (1 + SLACK)) + 1
    sizes = Counter(owner)
    for node, mine in enumerate(owner):
        votes = Counter(owner[one] for one in near[node])
        if not votes or sizes[mine] <= max(1, low):
            continue
        best = min(votes, key=lambda place: (-votes[place], place))
        if votes[best] > votes[mine] and sizes[best] < high:
            owner[node] = best
            sizes[mine] -= 1
            sizes[best] += 1
