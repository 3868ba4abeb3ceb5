"""Graphs kept in a NumPy ``.npz`` file.

Arrays: `src`, `dst` (integer ids from 0), `num_nodes`, and optionally `directed` (1: arcs as given; 0: both
directions stored), `label`, `split` (0 train, 1 validation, 2 test) and `feat`. Loaded without pickle.
docs/graphs.md has their dtypes and shapes, and an example.
"""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rudder.errors import FormatError
from rudder.graphs.graph import Graph

REQUIRED = ("src", "dst", "num_nodes")


def load_npz(path: str | Path) -> Graph:
    """Read a graph; it is named after the file.

    Raises FormatError where the file is truncated, lacks an array or holds ids out of range,
    FileNotFoundError where there is none.
    """
    path = Path(path)
    try:
        loaded: Any = np.load(path, allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            raise ValueError("it holds a single array")
        with loaded:
            arrays: dict[str, NDArray[Any]] = dict(loaded)
    except FileNotFoundError:
        raise
    except (OSError, EOFError, ValueError, zipfile.BadZipFile, zlib.error) as error:
        raise FormatError(f"{path}: not a readable .npz file ({error}); is it truncated?") from error
    missing = [key for key in REQUIRED if key not in arrays]
    if missing:
        raise FormatError(
            f"{path}: lacks {', '.join(missing)}; it holds {', '.join(sorted(arrays)) or 'nothing'}"
        )
    split = arrays.get("split")
    return Graph(
        name=path.stem,
        src=arrays["src"],
        dst=arrays["dst"],
        num_nodes=_scalar(path, arrays, "num_nodes"),
        directed=bool(_scalar(path, arrays, "directed")) if "directed" in arrays else True,
        feat=arrays.get("feat"),
        label=arrays.get("label"),
        split=None if split is None else split.astype(np.int8),
    )


def save_npz(path: str | Path, graph: Graph) -> None:
    """Write a graph so that `load_npz` reads it back."""
    arrays: dict[str, Any] = {
        "src": graph.src,
        "dst": graph.dst,
        "num_nodes": np.int64(graph.num_nodes),
        "directed": np.int8(graph.directed),
    }
    optional = {"feat": graph.feat, "label": graph.label, "split": graph.split}
    arrays.update({key: value for key, value in optional.items() if value is not None})
    np.savez(path, **arrays)


def _scalar(path: Path, arrays: Mapping[str, NDArray[Any]], key: str) -> int:
    if arrays[key].size != 1 or not np.issubdtype(arrays[key].dtype, np.integer):
        raise FormatError(f"{path}: {key} must be one integer, not {arrays[key].dtype} {arrays[key].shape}")
    return int(arrays[key].reshape(()))
