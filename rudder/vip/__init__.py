"""Vertex-inclusion probability: what a node is worth beyond the window. NumPy only."""

from rudder.vip.formula import FORMULA_VERSION, HopFanout, Relation, vip
from rudder.vip.layout import NodeLayout, read_layout
from rudder.vip.shard import (
    Exchange,
    PartitionEdges,
    Steps,
    degree_prior,
    run_in_process,
    run_over,
    vip_steps,
)

__all__ = [
    "FORMULA_VERSION",
    "Exchange",
    "HopFanout",
    "NodeLayout",
    "PartitionEdges",
    "Relation",
    "Steps",
    "degree_prior",
    "read_layout",
    "run_in_process",
    "run_over",
    "vip",
    "vip_steps",
]
