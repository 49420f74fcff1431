"""Choice of points that cover all others: the greedy solution of the k-center problem."""

import numpy as np


def k_center(
    points: np.ndarray, count: int, *, covered: np.ndarray | None = None, min_change: float = 0.0
) -> tuple[list[int], np.ndarray]:
    """Chooses points so that the largest Euclidean distance of any point from a chosen one is small.

    Each next point is the one farthest from all chosen ones. The first is the one nearest to the mean.

    Args:
        points: (N, D).
        count: Largest number of points to choose.
        covered: (M, D) points that count as chosen from the beginning.
        min_change: Points of which no coordinate differs by this much from that of a chosen point are alike to it, and
            not chosen. Equal points never are.

    Returns:
        The chosen points in order of their choice, and which of the others are alike to one of them (N,).

    Reference: Gonzalez, Theoretical Computer Science 1985; for labels, Sener and Savarese, ICLR 2018 (core-set).
    """
    distances, alike = np.full(len(points), np.inf), np.zeros(len(points), bool)
    chosen: list[int] = []

    def cover(point: np.ndarray) -> None:
        difference = points - point
        distances[:] = np.minimum(distances, np.linalg.norm(difference, axis=1))
        if min_change:
            alike[:] |= np.abs(difference).max(axis=1) < min_change

    for point in () if covered is None else covered:
        cover(point)
    while len(chosen) < count and not alike.all():
        if np.isinf(distances).all():
            following = int(np.linalg.norm(points - points.mean(axis=0), axis=1).argmin())
        else:
            following = int(np.where(alike, -1, distances).argmax())
            if distances[following] == 0:
                break
        chosen.append(following)
        cover(points[following])
    alike[chosen] = False
    return chosen, alike
