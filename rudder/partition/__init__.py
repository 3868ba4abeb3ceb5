"""Partitions for DistDGL, each with the prior that Rudder starts from."""

from rudder.partition.partition import PartitionReport, partition_graph
from rudder.partition.prior import PartReport, TrainedWith, make_prior
from rudder.partition.prior_file import (
    PriorInfo,
    load_prior,
    prior_path,
    read_prior,
    read_prior_info,
    save_prior,
)

__all__ = [
    "PartReport",
    "PartitionReport",
    "PriorInfo",
    "TrainedWith",
    "load_prior",
    "make_prior",
    "partition_graph",
    "prior_path",
    "read_prior",
    "read_prior_info",
    "save_prior",
]
