"""Rudder: prefetching of remote node features for distributed GNN training."""

__version__ = "0.1.0"
