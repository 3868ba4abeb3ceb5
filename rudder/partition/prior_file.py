"""The prior that lies beside each partition: ``part{i}/rudder_prior.npz``.

An uncompressed NumPy archive, loaded without pickle:

- `header`: a JSON text: format, version, and the fields of `PriorInfo`; `ntypes` lists the node types in
  order and `num_nodes` their counts. Type number t of that list has either
- `values_t`: float32 [nodes of the type], by DGL's new typed id; or, where that is smaller,
- `ids_t` (int32 or int64, ascending) and `values_t`: the nodes whose prior is not 0.
"""

from __future__ import annotations

import contextlib
import json
import logging
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rudder.errors import ConfigError, FormatError
from rudder.vip.formula import FORMULA_VERSION
from rudder.vip.layout import read_layout, read_part_config

FILE_NAME = "rudder_prior.npz"
FORMAT, VERSION = "rudder-prior", 1

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class PriorInfo:
    """What a stored prior was made for. Where any of it changes, the prior wants a refresh."""

    fanouts: Sequence[Any]
    batch_size: int
    trainers: int
    train_hash: str
    part: int
    num_parts: int
    kind: str = "vip"
    formula_version: int = FORMULA_VERSION


def prior_path(part_config: str | Path, part: int) -> Path:
    """Where the prior of a partition lies: beside the partition's graph."""
    config = read_part_config(part_config)
    try:
        graph_file = config[f"part-{part}"]["part_graph"]
    except KeyError as error:
        raise ConfigError(
            f"{part_config} has {config['num_parts']} partitions, and none of number {part}"
        ) from error
    return Path(part_config).parent / Path(graph_file).parent / FILE_NAME


def save_prior(path: str | Path, by_type: Mapping[str, NDArray[np.float32]], info: PriorInfo) -> None:
    """Write a prior (float32 per node of each type), sparse where that is smaller.

    A prior that lies there already is replaced at once: nobody finds half a file.
    """
    header = {
        "format": FORMAT,
        "version": VERSION,
        "ntypes": list(by_type),
        "num_nodes": [len(values) for values in by_type.values()],
        **asdict(info),
    }
    arrays: dict[str, Any] = {"header": np.array(json.dumps(header))}
    for t, values in enumerate(by_type.values()):
        values = values.astype(np.float32, copy=False)
        ids = np.flatnonzero(values)
        ids = ids.astype(np.int32) if len(values) <= np.iinfo(np.int32).max else ids
        if ids.nbytes + 4 * len(ids) < values.nbytes:
            arrays[f"ids_{t}"], values = ids, values[ids]
        arrays[f"values_{t}"] = values
    new = Path(path).with_suffix(".new.npz")
    np.savez(new, **arrays)
    new.replace(path)


def read_prior(path: str | Path) -> tuple[dict[str, NDArray[np.float32]], PriorInfo]:
    """The prior per node type, and what it was made for.

    Raises FormatError where the file is truncated, corrupt or of another version; FileNotFoundError without
    one.
    """
    with _faults_named(path):
        with np.load(path, allow_pickle=False) as archive:
            arrays = {key: archive[key] for key in archive.files}
        header, info = _read_header(path, arrays)
        by_type = {
            ntype: _expand(arrays, t, int(count))
            for t, (ntype, count) in enumerate(zip(header["ntypes"], header["num_nodes"]))
        }
    return by_type, info


def read_prior_info(part_config: str | Path, part: int) -> PriorInfo:
    """What a partition's stored prior was made for, without reading the prior. Raises as `read_prior`."""
    path = prior_path(part_config, part)
    with _faults_named(path), np.load(path, allow_pickle=False) as archive:
        return _read_header(path, archive)[1]


def _read_header(path: str | Path, arrays: Mapping[str, Any]) -> tuple[dict[str, Any], PriorInfo]:
    header = json.loads(str(arrays["header"]))
    if header["format"] != FORMAT or header["version"] != VERSION:
        raise FormatError(
            f"{path}: {header['format']} version {header['version']}; "
            f"this Rudder reads {FORMAT} version {VERSION}"
        )
    return header, PriorInfo(**{key: header[key] for key in PriorInfo.__dataclass_fields__})


@contextlib.contextmanager
def _faults_named(path: str | Path) -> Iterator[None]:
    """FormatError for whatever else a damaged file makes of its reading."""
    try:
        yield
    except (FileNotFoundError, FormatError):
        raise
    except (
        OSError,
        EOFError,
        KeyError,
        TypeError,
        ValueError,
        AttributeError,
        zipfile.BadZipFile,
        zlib.error,
    ) as error:
        raise FormatError(
            f"{path}: not a readable prior ({error!r}); make it again with `rudder prior`"
        ) from error


def load_prior(part_config: str | Path, part: int, ntype: str | None = None) -> NDArray[np.float32] | None:
    """The stored prior of a partition: float32 [nodes of `ntype`], by DGL's new typed id; None where none is
    stored.

    `ntype` may be left out where the graph has one node type. The reason for a None is logged. Raises
    FormatError where the file cannot be read or belongs to another graph, ConfigError for a node type or a
    partition that do not exist.
    """
    path = prior_path(part_config, part)
    layout = read_layout(part_config)
    if ntype is None:
        if len(layout.ntypes) != 1:
            raise ConfigError(f"the graph has node types {', '.join(layout.ntypes)}: say which prior to load")
        ntype = layout.ntypes[0]
    count = layout.count(ntype)
    try:
        by_type, info = read_prior(path)
    except FileNotFoundError:
        log.warning("no prior at %s: falling back; `rudder prior` computes one", path)
        return None
    if info.formula_version != FORMULA_VERSION:
        log.warning(
            "%s: made by VIP formula version %s, not %s: falling back",
            path,
            info.formula_version,
            FORMULA_VERSION,
        )
        return None
    found = len(by_type.get(ntype, ()))
    if (info.part, info.num_parts, found) != (part, layout.num_parts, count):
        raise FormatError(
            f"{path}: made for partition {info.part} of {info.num_parts} with {found} nodes of '{ntype}', "
            f"not for {part} of {layout.num_parts} with {count}; make it again with `rudder prior`"
        )
    return by_type[ntype]


def _expand(arrays: Mapping[str, NDArray[Any]], t: int, count: int) -> NDArray[np.float32]:
    values = arrays[f"values_{t}"]
    if values.dtype != np.float32 or not np.isfinite(values).all() or (values < 0).any():
        raise ValueError("a prior is finite and not negative")
    ids = arrays.get(f"ids_{t}")
    if ids is None:
        if values.shape != (count,):
            raise ValueError(f"{values.shape} values for {count} nodes")
        return values
    if ids.shape != values.shape or (len(ids) and (int(ids.min()) < 0 or int(ids.max()) >= count)):
        raise ValueError("ids and values do not match")
    dense = np.zeros(count, dtype=np.float32)
    dense[ids] = values
    return dense
