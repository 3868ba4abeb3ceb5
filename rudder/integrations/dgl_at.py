"""Which ids a minibatch will ask of an attached tensor: the ``at=`` of `rudder.attach`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Union

import dgl
import torch

from rudder.errors import ConfigError

#: "input_nodes", "seeds", "edges", or a function from a minibatch to a tensor of ids, or to a list of them.
At = Union[str, Callable[[Any], Any]]
PLACES = ("input_nodes", "seeds", "edges")


def ids_at(
    at: At, is_node: bool, type_name: Any, ntypes: Sequence[str]
) -> Callable[[Any], list[torch.Tensor]]:
    """The function from a minibatch to the parts of ids that the trainer will ask of one tensor.

    ``type_name``: the tensor's node type, or canonical edge type; ``ntypes``: all node types in order.
    Raises ConfigError.
    """
    if callable(at):
        function = at
        return lambda minibatch: _as_parts(function(minibatch))
    if at not in PLACES:
        raise ConfigError(f"at={at!r}: use {', '.join(PLACES)}, or a function from a minibatch to ids")
    if (at == "edges") == is_node:
        kind = "node" if is_node else "edge"
        raise ConfigError(f"at={at!r} does not fit a tensor of {kind} features")
    if at == "edges":
        return lambda minibatch: _edges(minibatch, type_name)
    position = PLACES.index(at)
    return lambda minibatch: [_nodes(minibatch[position], at, type_name, ntypes)]


def _as_parts(value: Any) -> list[torch.Tensor]:
    return list(value) if isinstance(value, (list, tuple)) else [value]


def _nodes(value: Any, at: str, ntype: str, ntypes: Sequence[str]) -> torch.Tensor:
    """Ids of one node type: of a tensor, a mapping from node types, or a list in the order of node types."""
    if isinstance(value, torch.Tensor):
        return value
    if isinstance(value, Mapping):
        # A type that this minibatch does not reach may be missing.
        return _checked(value.get(ntype, torch.empty(0, dtype=torch.int64)), at)
    if isinstance(value, (list, tuple)) and len(value) == len(ntypes):
        return _checked(value[ntypes.index(ntype)], at)
    raise ConfigError(
        f"the loader's minibatches have no node ids at {at!r}, but {type(value).__name__}: "
        "attach the tensor with at=, a function from a minibatch to ids"
    )


def _checked(value: Any, at: str) -> torch.Tensor:
    if not isinstance(value, torch.Tensor):
        raise ConfigError(
            f"the loader's minibatches have {type(value).__name__} where ids are expected ({at!r})"
        )
    return value


def _edges(minibatch: Sequence[Any], etype: tuple[str, str, str]) -> list[torch.Tensor]:
    """The global edge ids of each block, one part a block."""
    parts = []
    for block in minibatch[-1]:
        if etype in block.canonical_etypes and dgl.EID in block.edges[etype].data:
            parts.append(block.edges[etype].data[dgl.EID])
    return parts
