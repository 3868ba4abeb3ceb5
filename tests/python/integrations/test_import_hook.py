"""The import hook patches and replaces registered modules, and leaves every other import alone."""

from __future__ import annotations

import importlib
import importlib.abc
import inspect
import sys

import pytest

from rudder.integrations.import_hook import ImportHook


@pytest.fixture
def hook(tmp_path, monkeypatch):
    (tmp_path / "hooked_package").mkdir()
    (tmp_path / "hooked_package" / "__init__.py").write_text("value = 1\n")
    (tmp_path / "hooked_package" / "part.py").write_text("from hooked_package import value\nseen = value\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    made = ImportHook()
    made.activate()
    yield made
    sys.meta_path.remove(made)
    for name in [name for name in sys.modules if name.startswith("hooked_package")]:
        del sys.modules[name]


def test_patch_runs_before_anybody_imports_from_the_module(hook):
    hook.after_import("hooked_package", lambda module: setattr(module, "value", 2))
    assert "hooked_package" not in sys.modules
    assert importlib.import_module("hooked_package.part").seen == 2


def test_patch_of_an_imported_module_runs_at_once(hook):
    importlib.import_module("hooked_package")
    hook.after_import("hooked_package", lambda module: setattr(module, "value", 3))
    assert sys.modules["hooked_package"].value == 3


def test_source_is_still_found(hook):
    hook.after_import("hooked_package", lambda module: None)
    assert "value = 1" in inspect.getsource(importlib.import_module("hooked_package"))


def test_replacement_may_decline(hook):
    paths = []
    hook.replace("hooked_package.part", paths.append)
    assert importlib.import_module("hooked_package.part").seen == 1
    assert paths[0][0].endswith("hooked_package")


def test_other_imports_are_not_answered(hook):
    assert hook.find_spec("json", None) is None


def test_activation_is_idempotent(hook):
    hook.activate()
    assert sys.meta_path.count(hook) == 1
