"""Run code right after a named module has been imported, without importing it: how DGL is adapted lazily.

One finder on `sys.meta_path` serves the whole process. It answers only for names that somebody registered,
so every other import costs one dictionary lookup. Thread-safe: Python's import locks order the calls for
one module.
"""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import importlib.util
import sys
from collections.abc import Callable, Sequence
from types import ModuleType

Patch = Callable[[ModuleType], None]
# Given the parent package's path: a loader to use instead of the module's own, or None to leave it alone.
Replacement = Callable[["Sequence[str] | None"], "importlib.abc.Loader | None"]


class _PatchingLoader(importlib.abc.Loader):
    """The module's own loader, followed by the patches registered for it."""

    def __init__(self, inner: importlib.abc.Loader, patches: list[Patch]) -> None:
        self._inner = inner
        self._patches = patches

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType | None:
        return self._inner.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        self._inner.exec_module(module)
        for patch in self._patches:
            patch(module)

    def __getattr__(self, name: str) -> object:
        # pkgutil, inspect and pickle ask loaders for get_source, get_data, is_package and others.
        return getattr(self._inner, name)


class ImportHook(importlib.abc.MetaPathFinder):
    """Finder that patches or replaces registered modules when they are first imported."""

    def __init__(self) -> None:
        """Start with nothing registered; `activate` puts it to work."""
        self._patches: dict[str, list[Patch]] = {}
        self._replacements: dict[str, Replacement] = {}

    def activate(self) -> None:
        """Put this finder first on `sys.meta_path`. Idempotent."""
        if self not in sys.meta_path:
            sys.meta_path.insert(0, self)

    def after_import(self, name: str, patch: Patch) -> None:
        """Call `patch(module)` once `name` has been imported; now, if it has been already."""
        self._patches.setdefault(name, []).append(patch)
        module = sys.modules.get(name)
        # A module in the middle of its import gets its patches from the loader, or from its importer's.
        if module is not None and not getattr(getattr(module, "__spec__", None), "_initializing", False):
            patch(module)

    def replace(self, name: str, replacement: Replacement) -> None:
        """Ask `replacement` for the loader of `name`; where it answers None, the import goes its normal
        way."""
        self._replacements[name] = replacement

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        """Answer for registered names only."""
        replacement = self._replacements.get(fullname)
        if replacement is not None:
            loader = replacement(path)
            if loader is not None:
                return importlib.machinery.ModuleSpec(fullname, loader, origin="rudder", is_package=True)
        patches = self._patches.get(fullname)
        if not patches:
            return None
        spec = self._find_elsewhere(fullname, path, target)
        if spec is not None and spec.loader is not None:
            spec.loader = _PatchingLoader(spec.loader, patches)
        return spec

    def _find_elsewhere(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None
    ) -> importlib.machinery.ModuleSpec | None:
        for finder in sys.meta_path:
            if finder is self:
                continue
            spec = finder.find_spec(fullname, path, target)
            if spec is not None:
                return spec
        return None


HOOK = ImportHook()
