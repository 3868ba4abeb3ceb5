"""Partitions for DistDGL, each with the prior that Rudder starts from."""

from rudder.partition.partition import PartitionReport, PartReport, partition_graph
from rudder.partition.prior_file import PriorInfo, load_prior, prior_path, read_prior, save_prior

__all__ = [
    "PartReport",
    "PartitionReport",
    "PriorInfo",
    "load_prior",
    "partition_graph",
    "prior_path",
    "read_prior",
    "save_prior",
]
