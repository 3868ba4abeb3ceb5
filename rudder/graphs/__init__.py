"""Graphs to partition: from a file, from a data set, or generated. NumPy only."""

from rudder.graphs.datasets import load_dataset, load_graph
from rudder.graphs.generate import generate
from rudder.graphs.graph import Graph
from rudder.graphs.npz import load_npz, save_npz
from rudder.graphs.synthesise import complete

__all__ = ["Graph", "complete", "generate", "load_dataset", "load_graph", "load_npz", "save_npz"]
