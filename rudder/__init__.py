"""Rudder: prefetching of remote node features for distributed GNN training."""

__version__ = "0.1.0"

from rudder.integrations import dgl_compat as _dgl_compat

_dgl_compat.install()
