"""Lets DGL 2.1 import and train on current torch; does nothing where DGL imports cleanly.

`import rudder` calls `install()`, which only registers import hooks: neither dgl nor torch is imported
until the user does. Three things stand between DGL 2.1 and a current environment:

- `dgl.graphbolt` loads a library built for one torch version and needs a torchdata that still has
  datapipes. Distributed training does not use it, but `dgl.distributed` names its classes. Where the
  library for this torch is missing, a stand-in takes the module's place: every attribute is an empty class,
  so that isinstance checks are False.
- `setuptools.extern.packaging`, DGL's fallback for `packaging`, is gone from current setuptools: the real
  package answers.
- DGL's newest examples spell `dgl.distributed.DistNodeDataLoader`, which 2.1 has only under
  `dgl.dataloading`.

Processes started by `multiprocessing` (DGL's samplers are spawned, and import dgl before any script of the
user) get the same hooks: what the parent sends a spawned child carries an object whose unpickling imports
rudder.
"""

from __future__ import annotations

import importlib
import importlib.abc
import importlib.machinery
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from rudder.integrations import dgl_hosts
from rudder.integrations.import_hook import HOOK

_LOADERS = ("DistNodeDataLoader", "DistEdgeDataLoader")


def install() -> None:
    """Register the hooks. Idempotent, cheap (no import of dgl or torch), safe to call before or after
    `import dgl`."""
    if HOOK in sys.meta_path:
        return
    HOOK.activate()
    HOOK.replace("dgl.graphbolt", _graphbolt_stand_in)
    HOOK.replace("setuptools.extern", _missing_extern)
    HOOK.replace("setuptools.extern.packaging", _packaging_alias)
    HOOK.after_import("dgl.dataloading", _add_loader_names)
    HOOK.after_import("dgl.distributed.dist_context", _default_ip_config)
    HOOK.after_import("multiprocessing.spawn", _carry_to_spawned_children)
    dgl_hosts.install(HOOK)


class _StandInModule(ModuleType):
    """A module whose every public attribute is an empty class, made on first use."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        missing = type(
            name, (), {"__init__": _refuse, "__doc__": f"Stand-in: {self.__name__}.{name} cannot run here."}
        )
        setattr(self, name, missing)
        return missing


def _refuse(self: object, *_args: object, **_kwargs: object) -> None:
    raise ImportError(
        f"dgl.graphbolt.{type(self).__name__} needs a compiled part that this DGL has for older torch only;"
        " install a DGL built for your torch, or leave use_graphbolt off"
    )


class _StandInLoader(importlib.abc.Loader):
    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType:
        return _StandInModule(spec.name, "Stand-in for a DGL module that cannot be loaded with this torch.")

    def exec_module(self, module: ModuleType) -> None:
        # DGL imports nothing below graphbolt by module name; an empty path makes such an import fail plainly.
        module.__path__ = []


def _graphbolt_stand_in(path: Sequence[str] | None) -> importlib.abc.Loader | None:
    """A stand-in where DGL has no GraphBolt library for this torch; None where the real module can be
    imported."""
    import torch  # DGL's backend has imported it by now

    version = torch.__version__.split("+", maxsplit=1)[0]
    for folder in path or ():
        if any((Path(folder) / "graphbolt").glob(f"*graphbolt_pytorch_{version}.*")):
            return None
    return _StandInLoader()


class _AliasLoader(importlib.abc.Loader):
    """Makes the imported name another name of the real `packaging`."""

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType | None:
        return None

    def exec_module(self, module: ModuleType) -> None:
        # The import system hands out what it finds here afterwards; the real module keeps its own spec.
        sys.modules[module.__name__] = importlib.import_module("packaging")


def _missing_extern(path: Sequence[str] | None) -> importlib.abc.Loader | None:
    """An empty `setuptools.extern`, where setuptools no longer has one."""
    return None if any((Path(folder) / "extern").exists() for folder in path or ()) else _StandInLoader()


def _packaging_alias(path: Sequence[str] | None) -> importlib.abc.Loader | None:
    """`packaging`, where our empty `setuptools.extern` is the parent (an old setuptools has a path and its
    own copy)."""
    return None if path else _AliasLoader()


def _add_loader_names(dataloading: ModuleType) -> None:
    """Newer DGL: `dgl.distributed.DistNodeDataLoader` and `DistEdgeDataLoader`."""
    distributed = sys.modules.get("dgl.distributed")
    if distributed is None:
        return
    for name in _LOADERS:
        if not hasattr(distributed, name) and hasattr(dataloading, name):
            setattr(distributed, name, getattr(dataloading, name))


def _default_ip_config(dist_context: ModuleType) -> None:
    """In a launched job `dgl.distributed.initialize(path)` uses the launcher's addresses, whatever the
    script was given.

    The servers know no other: a trainer that read another file would wait for them for ever.
    """
    stock = dist_context.initialize

    def initialize(ip_config: str | None = None, *args: Any, **kwargs: Any) -> Any:
        launched = os.environ.get("DGL_IP_CONFIG") if dgl_hosts.active() else None
        return stock(launched or ip_config, *args, **kwargs)

    initialize.__doc__ = stock.__doc__
    vars(dist_context)["initialize"] = initialize


class _Carrier:
    """Pickles to a call that imports rudder in the process that unpickles it."""

    def __reduce__(self) -> tuple[Any, ...]:
        # The child has not got our sys.path yet: rudder's own folder goes last, so that an installed one
        # wins.
        root = str(Path(__file__).resolve().parents[2])
        code = f"import sys\nif {root!r} not in sys.path: sys.path.append({root!r})\nimport rudder"
        return exec, (code, {})


def _carry_to_spawned_children(spawn: ModuleType) -> None:
    stock = spawn.get_preparation_data

    def get_preparation_data(name: str) -> dict[str, Any]:
        # The child unpickles this before anything else. First key: even "sys_path" and the main module come
        # later.
        return {"rudder": _Carrier(), **stock(name)}

    vars(spawn)["get_preparation_data"] = get_preparation_data
