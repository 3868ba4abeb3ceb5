"""Minibatches in a compact form while they wait: DGL's graphs, tensors, and tuples, lists and dicts of them.

A sampled block costs 16 to 24 bytes an edge in DGL's form: two int64 ends, an int64 edge id, and formats
made from them. Here integers take the fewest bytes that hold them, destinations are stored as runs
(samplers emit a node's edges together), tensors that DGL shares between blocks are stored once, and node
ids that begin another list of node ids (a block's destinations begin its sources) are stored as their
number. What comes out again equals what went in: same edge order, index type, types, frames, and tensors
shared as before.

What is not a tensor on the CPU or a graph there is kept as it is, and not counted.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import dgl
import numpy as np
import torch
from dgl import heterograph_index
from dgl.frame import Column, Frame
from dgl.utils import toindex
from numpy.typing import NDArray

# The smallest first; unsigned before signed of the same size, as ids are never negative.
_SMALL = tuple(np.dtype(name) for name in ("u1", "i1", "u2", "i2", "u4", "i4"))
# Tensors shorter than this are not worth a look for a common beginning.
_SHORTEST_PREFIX = 16
_NARROWED = (torch.int64, torch.int32, torch.int16)


class Packer:
    """Packs one minibatch; remembers what it has seen of it. Not thread-safe."""

    def __init__(self) -> None:
        """Nothing seen yet."""
        self.nbytes = 0
        self._seen: dict[tuple[Any, ...], tuple[torch.Tensor, PackedTensor]] = {}
        self._lists: list[PackedTensor] = []

    def pack(self, value: Any) -> Any:
        """The compact form of ``value``."""
        if isinstance(value, torch.Tensor):
            return (
                self.tensor(value) if value.device.type == "cpu" and value.layout == torch.strided else value
            )
        if isinstance(value, dgl.DGLGraph):
            return self._graph(value) if value.device.type == "cpu" else value
        if type(value) is dict:
            return _PackedDict({key: self.pack(each) for key, each in value.items()})
        if isinstance(value, (list, tuple)):
            return _PackedSequence(_maker(value), [self.pack(each) for each in value])
        return value

    def tensor(self, tensor: torch.Tensor) -> PackedTensor:
        """The compact form of a tensor on the CPU."""
        key = (tensor.data_ptr(), tuple(tensor.shape), tensor.stride(), tensor.dtype)
        known = self._seen.get(key) if tensor.numel() else None
        if known is not None:
            return known[1]
        packed = self._pack_tensor(tensor)
        self.nbytes += packed.nbytes
        # The tensor is held until all is packed, so that no other one gets its address meanwhile.
        self._seen[key] = (tensor, packed)
        return packed

    def _pack_tensor(self, tensor: torch.Tensor) -> PackedTensor:
        if tensor.dtype not in _NARROWED or tensor.requires_grad:
            return PackedTensor(tensor.dtype, tensor=tensor)
        array = tensor.detach().numpy()
        if array.ndim == 1 and len(array) >= _SHORTEST_PREFIX:
            for other in self._lists:
                if other.begins_with(array):
                    return PackedTensor(tensor.dtype, start_of=other, length=len(array))
        packed = PackedTensor(tensor.dtype, array=narrow(array))
        if array.ndim == 1:
            self._lists.append(packed)
        return packed

    def _graph(self, graph: dgl.DGLGraph) -> PackedGraph:
        index = graph._graph
        edges = []
        for number, etype in enumerate(graph.canonical_etypes):
            src, dst = graph.edges(form="uv", order="eid", etype=etype)
            sources, runs = narrow(src.numpy()), Runs.of(dst.numpy())
            self.nbytes += sources.nbytes + runs.nbytes
            types = index.metagraph.find_edge(number)
            edges.append(_Edges(types, sources, runs))
        formats = graph.formats()
        attributes = {
            name: value
            for name, value in graph.__dict__.items()
            if name not in ("_graph", "_node_frames", "_edge_frames")
        }
        return PackedGraph(
            kind=type(graph),
            attributes=attributes,
            metagraph=index.metagraph,
            nodes=[index.num_nodes(number) for number in range(len(graph._ntypes))],
            edges=edges,
            idtype=np.dtype(np.int32 if graph.idtype == torch.int32 else np.int64),
            formats=[*formats["created"], *formats["not created"]],
            node_frames=[self._frame(frame) for frame in graph._node_frames],
            edge_frames=[self._frame(frame) for frame in graph._edge_frames],
        )

    def _frame(self, frame: Frame) -> _PackedFrame:
        columns = {
            name: self.pack(column.data) if isinstance(column, Column) else column
            for name, column in frame._columns.items()
        }
        return _PackedFrame(columns, frame.num_rows, dict(frame._initializers), frame._default_initializer)


class Unpacker:
    """Restores one minibatch; tensors that were shared are shared again. Not thread-safe.

    On a GPU it is put together there: what crosses the bus is the compact form, out of pinned memory, and
    nothing waits for the GPU.
    """

    def __init__(self, place: Any | None = None) -> None:
        """``place``: the torch device to restore to; None: main memory."""
        self._place = torch.device("cpu" if place is None else place)
        #: Put together there, from what is uploaded.
        self.on_gpu = self._place.type != "cpu"
        self._made: dict[int, torch.Tensor] = {}
        #: All tensors that were made, also those inside of graphs.
        self.tensors: list[torch.Tensor] = []

    def unpack(self, packed: Any) -> Any:
        """What was packed."""
        if isinstance(packed, PackedTensor):
            return self.tensor(packed)
        if isinstance(packed, PackedGraph):
            return packed.restore(self)
        if isinstance(packed, _PackedDict):
            return {key: self.unpack(each) for key, each in packed.values.items()}
        if isinstance(packed, _PackedSequence):
            return packed.make([self.unpack(each) for each in packed.values])
        if isinstance(packed, torch.Tensor):  # on another device, or sparse: it waited as it was
            return packed.to(self._place) if self.on_gpu else packed
        if isinstance(packed, dgl.DGLGraph):
            return packed.to(self._place) if self.on_gpu else packed
        return packed

    def tensor(self, packed: PackedTensor) -> torch.Tensor:
        """The tensor that was packed."""
        made = self._made.get(id(packed))
        if made is None:
            made = self._made[id(packed)] = self.keep(packed.restore(self))
        return made

    def has(self, packed: PackedTensor) -> bool:
        """Was this tensor in what was unpacked?"""
        return id(packed) in self._made

    def keep(self, tensor: torch.Tensor) -> torch.Tensor:
        """Counts a tensor among those that were made."""
        self.tensors.append(tensor)
        return tensor

    def upload(self, tensor: torch.Tensor) -> torch.Tensor:
        """A tensor of main memory at the place; queued, where that is a GPU."""
        if not self.on_gpu:
            return tensor
        return tensor.pin_memory().to(self._place, non_blocking=True)

    def widen(self, array: NDArray[Any], dtype: torch.dtype) -> torch.Tensor:
        """Integers of any size as a tensor of that type at the place, in memory of its own."""
        if not self.on_gpu:
            return torch.from_numpy(array.astype(_numpy_type(dtype), order="C", copy=True))
        # torch has no wide unsigned types on GPUs: their bits go as signed ones, and lose the sign there.
        signed = np.dtype(f"i{array.dtype.itemsize}") if array.dtype.itemsize > 1 else array.dtype
        there = self.upload(torch.from_numpy(np.ascontiguousarray(array).view(signed)))
        if array.dtype == signed:
            return there.to(dtype)
        return (there.to(torch.int64) & int(np.iinfo(array.dtype).max)).to(dtype)

    def expand(self, runs: Runs, length: int, dtype: torch.dtype) -> torch.Tensor:
        """The array that the runs stand for, ``length`` long, at the place."""
        if not self.on_gpu:
            return torch.from_numpy(runs.expand(_numpy_type(dtype)))
        values = self.widen(runs.values, dtype)
        if runs.lengths is None:
            return values
        # With the size given, the GPU is not asked for it.
        return torch.repeat_interleave(values, self.widen(runs.lengths, torch.int64), output_size=length)


class PackedTensor:
    """A tensor as it is, as integers of fewer bytes, or as the beginning of another one."""

    __slots__ = ("_array", "_dtype", "_length", "_start_of", "_tensor")

    def __init__(
        self,
        dtype: torch.dtype,
        *,
        tensor: torch.Tensor | None = None,
        array: NDArray[Any] | None = None,
        start_of: PackedTensor | None = None,
        length: int = 0,
    ) -> None:
        """Give one of ``tensor``, ``array``, or ``start_of`` with ``length``."""
        self._dtype, self._tensor, self._array = dtype, tensor, array
        self._start_of, self._length = start_of, length

    @property
    def nbytes(self) -> int:
        """Bytes that it occupies."""
        if self._tensor is not None:
            return int(self._tensor.numel()) * self._tensor.element_size()
        return self._array.nbytes if self._array is not None else 0

    def as_array(self) -> NDArray[Any]:
        """Its numbers, of an integer type of some size; not to be written to."""
        if self._start_of is not None:
            return self._start_of.as_array()[: self._length]
        if self._array is not None:
            return self._array
        assert self._tensor is not None
        array: NDArray[Any] = self._tensor.detach().numpy()
        return array

    def begins_with(self, array: NDArray[Any]) -> bool:
        """Do its numbers start with exactly these?"""
        own = self.as_array()
        length = len(array)
        # First and last are cheap to compare and nearly always tell.
        return (
            len(own) >= length
            and own[0] == array[0]
            and own[length - 1] == array[-1]
            and np.array_equal(own[:length], array)
        )

    def restore(self, unpacker: Unpacker) -> torch.Tensor:
        """A tensor of the original type; memory of its own, unless it was kept as it is."""
        if self._tensor is not None:
            return unpacker.upload(self._tensor)
        if self.as_array().size == 0:
            return unpacker.upload(torch.empty(self.as_array().shape, dtype=self._dtype))
        return unpacker.widen(self.as_array(), self._dtype)


@dataclass
class PackedGraph:
    """A DGLGraph or DGLBlock."""

    kind: Any
    attributes: dict[str, Any]
    metagraph: Any
    nodes: list[int]
    edges: list[_Edges]
    idtype: np.dtype[Any]
    formats: list[str]
    node_frames: list[_PackedFrame]
    edge_frames: list[_PackedFrame]

    def restore(self, unpacker: Unpacker) -> Any:
        """The graph, with the attributes of the original."""
        relations = []
        ids = torch.int32 if self.idtype == np.int32 else torch.int64
        for edges in self.edges:
            source, target = edges.types
            relations.append(
                heterograph_index.create_unitgraph_from_coo(
                    1 if source == target else 2,
                    self.nodes[source],
                    self.nodes[target],
                    unpacker.keep(unpacker.widen(edges.sources, ids)),
                    unpacker.keep(unpacker.expand(edges.runs, len(edges.sources), ids)),
                    self.formats,
                )
            )
        graph = self.kind.__new__(self.kind)
        graph.__dict__.update(self.attributes)
        graph._graph = heterograph_index.create_heterograph_from_relations(
            self.metagraph, relations, toindex(self.nodes, "int64")
        )
        graph._node_frames = [frame.restore(unpacker) for frame in self.node_frames]
        graph._edge_frames = [frame.restore(unpacker) for frame in self.edge_frames]
        return graph


@dataclass
class Runs:
    """Integers as values and how often each comes in a row, or plainly where that is smaller."""

    values: NDArray[Any]
    lengths: NDArray[Any] | None

    @classmethod
    def of(cls, array: NDArray[Any]) -> Runs:
        """The runs of a one-dimensional array."""
        if len(array) == 0:
            return cls(narrow(array), None)
        starts = np.flatnonzero(np.concatenate(([True], array[1:] != array[:-1])))
        values, lengths = narrow(array[starts]), narrow(np.diff(starts, append=len(array)))
        plain = narrow(array)
        if values.nbytes + lengths.nbytes < plain.nbytes:
            return cls(values, lengths)
        return cls(plain, None)

    @property
    def nbytes(self) -> int:
        """Bytes that they occupy."""
        return self.values.nbytes + (self.lengths.nbytes if self.lengths is not None else 0)

    def expand(self, dtype: np.dtype[Any]) -> NDArray[Any]:
        """The array."""
        values = self.values.astype(dtype)
        return values if self.lengths is None else np.repeat(values, self.lengths)


@dataclass
class _Edges:
    types: tuple[int, int]
    sources: NDArray[Any]
    runs: Runs


@dataclass
class _PackedFrame:
    columns: dict[str, Any]
    rows: int
    initializers: dict[str, Any]
    default_initializer: Any

    def restore(self, unpacker: Unpacker) -> Frame:
        frame = Frame({name: unpacker.unpack(column) for name, column in self.columns.items()}, self.rows)
        frame._initializers = dict(self.initializers)
        frame._default_initializer = self.default_initializer
        return frame


@dataclass
class _PackedDict:
    values: dict[Any, Any]


@dataclass
class _PackedSequence:
    make: Callable[[list[Any]], Any]
    values: list[Any]


def narrow(array: NDArray[Any]) -> NDArray[Any]:
    """A copy of an integer array in the smallest type that holds it."""
    if array.size == 0:
        return array.astype(np.uint8)
    low, high = int(array.min()), int(array.max())
    for dtype in _SMALL:
        bounds = np.iinfo(dtype)
        if dtype.itemsize < array.dtype.itemsize and bounds.min <= low and high <= bounds.max:
            return array.astype(dtype)
    return array.copy()


def _maker(value: list[Any] | tuple[Any, ...]) -> Callable[[list[Any]], Any]:
    kind = type(value)
    if hasattr(kind, "_make"):  # a named tuple
        make: Callable[[list[Any]], Any] = kind._make
        return make
    return kind


def _numpy_type(dtype: torch.dtype) -> np.dtype[Any]:
    return np.dtype({torch.int64: np.int64, torch.int32: np.int32, torch.int16: np.int16}[dtype])
