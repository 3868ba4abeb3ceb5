"""DGL imports on current torch after `import rudder`, in spawned children too; nothing comes too early."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

import rudder
from rudder.integrations import dgl_compat

needs_dgl = pytest.mark.skipif(
    importlib.util.find_spec("dgl") is None or importlib.util.find_spec("torch") is None,
    reason="needs dgl and torch",
)


def _python(code: str, *args: str, **env: str) -> str:
    root = str(Path(rudder.__file__).resolve().parents[1])
    path = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))
    done = subprocess.run(
        [sys.executable, "-c", code, *args],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": path, **env},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_import_rudder_imports_nothing_heavy():
    code = "import sys, rudder; print(sorted({'dgl', 'torch', 'typer', 'rich', 'pandas'} & set(sys.modules)))"
    assert _python(code) == "[]\n"


@needs_dgl
def test_dgl_imports_and_has_the_newer_names():
    code = """
import rudder, dgl
print(dgl.distributed.DistNodeDataLoader.__name__, dgl.distributed.DistEdgeDataLoader.__name__)
print(dgl.graph(([0], [1])).num_edges())
"""
    assert _python(code) == "DistNodeDataLoader DistEdgeDataLoader\n1\n"


@needs_dgl
def test_graphbolt_stand_in_has_empty_classes_that_refuse():
    code = """
import rudder, dgl, sys
if type(dgl.graphbolt).__name__ != "_StandInModule":
    print("genuine")
    sys.exit()
graph = dgl.graph(([0], [1]))
print(isinstance(graph, dgl.graphbolt.FusedCSCSamplingGraph), hasattr(dgl.graphbolt, "__nothing__"))
try:
    dgl.graphbolt.ItemSet(3)
except ImportError as error:
    print("ItemSet" in str(error))
try:
    import dgl.graphbolt.impl
except ModuleNotFoundError as error:
    print(error.name)
"""
    assert _python(code) in ("genuine\n", "False False\nTrue\ndgl.graphbolt.impl\n")


def test_genuine_graphbolt_stays_where_its_library_fits(tmp_path, monkeypatch):
    torch = pytest.importorskip("torch")
    version = torch.__version__.split("+")[0]
    (tmp_path / "graphbolt").mkdir()
    assert dgl_compat._graphbolt_stand_in([str(tmp_path)]) is not None
    (tmp_path / "graphbolt" / f"libgraphbolt_pytorch_{version}.so").touch()
    assert dgl_compat._graphbolt_stand_in([str(tmp_path)]) is None


def test_vendored_packaging_resolves_and_the_real_one_stays_itself():
    code = """
import rudder, packaging.version
from setuptools.extern.packaging import version
import packaging
print(version.parse("2.1") < version.parse("2.10"), packaging.__spec__.name)
"""
    pytest.importorskip("setuptools")
    assert _python(code) == "True packaging\n"


def test_an_old_setuptools_keeps_its_own(tmp_path):
    (tmp_path / "extern").mkdir()
    assert dgl_compat._missing_extern([str(tmp_path)]) is None
    assert dgl_compat._packaging_alias([str(tmp_path / "extern")]) is None


def test_spawned_children_import_rudder_before_anything_else(tmp_path):
    script = tmp_path / "spawns.py"
    script.write_text(
        "import sys\n"
        "at_import = 'rudder' in sys.modules\n"
        "def work(queue):\n    queue.put(at_import)\n"
        "if __name__ == '__main__':\n"
        "    import rudder\n"
        "    import multiprocessing\n"
        "    for method in ('spawn', 'forkserver'):\n"
        "        context = multiprocessing.get_context(method)\n"
        "        queue = context.Queue()\n"
        "        process = context.Process(target=work, args=(queue,))\n"
        "        process.start()\n"
        "        print(queue.get())\n"
        "        process.join()\n"
    )
    root = str(Path(rudder.__file__).resolve().parents[1])
    env = {**os.environ, "PYTHONPATH": root}
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, env=env)
    assert done.stdout == "True\nTrue\n", done.stderr


def test_install_is_idempotent():
    before = list(sys.meta_path)
    dgl_compat.install()
    assert sys.meta_path == before
