"""Taking every n-th pixel, moved into the stride of the 1×1 convolution behind it."""

from __future__ import annotations

from thumbnet.graph.graph import Graph, Node
from thumbnet.graph.passes.rewrite import substitute

_POOLS = ("max_pool2d", "avg_pool2d")


def fuse_subsampling(graph: Graph) -> Graph:
    """Merges a strided pool of one pixel with the unpadded 1×1 convolutions and the like pools that read it.

    Keeps: the function, exactly. This is how `x[:, :, ::2, ::2]` arrives from importers.
    """
    # From the end, so that a pool that reads a pool has gone into its convolution before.
    for name in [n.name for n in reversed(graph.nodes) if n.op in _POOLS]:
        pool = graph.by_name[name]
        readers = graph.consumers[name]
        if not _samples(pool) or name in graph.outputs or not all(_takes_pixels(r) for r in readers):
            continue
        fused = {r.name: _strided(r, pool) for r in readers}
        graph = graph.with_nodes(fused.get(n.name, n) for n in graph.nodes if n.name != name)
    return graph


def _samples(pool: Node) -> bool:
    return list(pool.attrs["kernel"]) == [1, 1] and not any(pool.attrs["padding"])


def _takes_pixels(reader: Node) -> bool:
    if reader.op in _POOLS:
        return _samples(reader)
    if reader.op not in ("conv2d", "depthwise_conv2d"):
        return False
    return reader.weights["weight"].shape[2:] == (1, 1) and not any(reader.attrs.get("padding", ()))


def _strided(reader: Node, pool: Node) -> Node:
    stride = [int(a) * int(b) for a, b in zip(reader.attrs["stride"], pool.attrs["stride"], strict=True)]
    return substitute([reader.with_attrs(stride=stride)], {pool.name: pool.inputs[0]})[0]
