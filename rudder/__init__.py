"""Rudder: prefetching of remote node features for distributed GNN training.

    import rudder                                       # before dgl: lets DGL 2.1 run on current torch
    import dgl

    feats = rudder.attach(g, "features", capacity=0.25)  # behaves as g.ndata["features"]
    for input_nodes, seeds, blocks in rudder.prefetch(dataloader, feats):
        x = feats[input_nodes]                           # the rows are already here

Public names are loaded when they are first used: importing this package needs numpy only.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from rudder.integrations import dgl_compat as _dgl_compat

if TYPE_CHECKING:
    from rudder.agent import Controller, DefaultController, Evidence, RuleController
    from rudder.errors import (
        ArenaError,
        ClosedError,
        ConfigError,
        DeadlineError,
        DeviceError,
        FormatError,
        IdError,
        LaunchError,
        RudderError,
        StateError,
        TransportError,
        VerifyError,
    )
    from rudder.integrations.dgl import AttachedTensor, attach, prefetch
    from rudder.loader import PrefetchLoader
    from rudder.metrics import IntervalMetrics
    from rudder.options import Options
    from rudder.plan import Plan
    from rudder.policies import PolicySettings
    from rudder.prefetcher import Prefetcher
    from rudder.recorder import record
    from rudder.source import ArraySource, FeatureSource, pull_routes

__version__ = "0.1.0"

# Name -> module that defines it.
_HOME = {
    **dict.fromkeys(("AttachedTensor", "attach", "prefetch"), "rudder.integrations.dgl"),
    **dict.fromkeys(("Controller", "DefaultController", "Evidence", "RuleController"), "rudder.agent"),
    **dict.fromkeys(("ArraySource", "FeatureSource", "pull_routes"), "rudder.source"),
    **dict.fromkeys(
        (
            "ArenaError",
            "ClosedError",
            "ConfigError",
            "DeadlineError",
            "DeviceError",
            "FormatError",
            "IdError",
            "LaunchError",
            "RudderError",
            "StateError",
            "TransportError",
            "VerifyError",
        ),
        "rudder.errors",
    ),
    "IntervalMetrics": "rudder.metrics",
    "Options": "rudder.options",
    "Plan": "rudder.plan",
    "PolicySettings": "rudder.policies",
    "PrefetchLoader": "rudder.loader",
    "Prefetcher": "rudder.prefetcher",
    "record": "rudder.recorder",
}

__all__ = [
    "ArenaError",
    "ArraySource",
    "AttachedTensor",
    "ClosedError",
    "ConfigError",
    "Controller",
    "DeadlineError",
    "DefaultController",
    "DeviceError",
    "Evidence",
    "FeatureSource",
    "FormatError",
    "IdError",
    "IntervalMetrics",
    "LaunchError",
    "Options",
    "Plan",
    "PolicySettings",
    "PrefetchLoader",
    "Prefetcher",
    "RudderError",
    "RuleController",
    "StateError",
    "TransportError",
    "VerifyError",
    "attach",
    "prefetch",
    "pull_routes",
    "record",
]

_dgl_compat.install()


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'rudder' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOME])
