"""The order in which row runs sum up products, where a tile takes several of them at once.

A product is known by its number in the weights (C_in, KD, KH, KW), and by the offset of its element in the patch.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ...kernels.chain_tile import LINKS


class Chains(NamedTuple):
    """What `chain_tile.chain_gemm` sums up."""

    counts: np.ndarray  # chains of each of `LINKS`, and single products beside pairs
    offsets: np.ndarray  # of the first element of each
    order: np.ndarray  # of products, or pairs of them: see `paired`


def paired(offsets: np.ndarray) -> tuple[np.ndarray, int]:
    """The order of products in which those side by side are pairs, as two columns row by row; and how many pairs.

    Pairs come first. Others have -1 beside them. Without any pair, products are listed one by one, as they are.
    """
    places = [*np.argsort(offsets).tolist(), -1]
    pairs, single = [], []
    i = 0
    while i < len(offsets):
        first, second = places[i : i + 2]
        if offsets[second] == offsets[first] + 1:
            pairs.append((first, second))
            i += 2
        else:
            single.append((first, -1))
            i += 1
    order = np.array(pairs + single, np.int64).ravel() if pairs else np.arange(len(offsets))
    return order, len(pairs)


def chains(offsets: np.ndarray, step: int, order: np.ndarray, pairs: int) -> Chains:
    """Chains of products, or of pairs if there are any, whose elements lie `step` apart."""
    units = order.reshape(-1, 2 if pairs else 1)
    linked = units[:pairs] if pairs else units
    at = {int(offsets[unit[0]]): i for i, unit in enumerate(linked)}
    found: dict[int, list[list[int]]] = {links: [] for links in LINKS}
    for first in sorted(at):
        chain: list[int] = []
        while len(chain) < LINKS[0] and (unit := at.pop(first + len(chain) * step, None)) is not None:
            chain.append(unit)
        if chain:
            found[len(chain)].append(chain)
    every = [chain for links in LINKS for chain in found[links]]
    single = range(len(linked), len(units))
    numbers = [unit for chain in every for unit in chain] + list(single)
    first_products = [int(units[chain[0]][0]) for chain in every] + [int(units[i][0]) for i in single]
    counts = np.array([*(len(found[links]) for links in LINKS), len(single)], np.int64)
    return Chains(counts, offsets[first_products], np.ascontiguousarray(units[numbers]).ravel())
