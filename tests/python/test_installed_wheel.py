"""The built wheel works by itself: installed beside numpy alone, used from outside the source tree."""

from __future__ import annotations

import importlib.metadata
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[2]

# The build shares the folder of `make env`, so that nothing is compiled twice.
try:
    importlib.metadata.distribution("rudder-gnn")
except importlib.metadata.PackageNotFoundError:
    pytest.skip("rudder is not installed here: make env", allow_module_level=True)

pytestmark = pytest.mark.slow

EXAMPLE = """
import sys
import numpy as np
import rudder

assert sys.argv[1] in rudder.__file__, rudder.__file__
rows = np.random.default_rng(0).random((4000, 16), dtype=np.float32)
minibatches = [np.random.default_rng(i).permutation(4000)[:256] for i in range(20)]
source = rudder.ArraySource(rows, part_starts=[0, 1000, 4000])
prefetcher = rudder.Prefetcher(source, rudder.Options(capacity=500, prior="none"))
for ids in prefetcher.iterate(minibatches):
    np.testing.assert_array_equal(prefetcher[ids], rows[ids])
prefetcher.close()
heavy = {"torch", "dgl", "typer", "rich"} & set(sys.modules)
assert not heavy, heavy
print("rows are equal")
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    pip = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation"]
    subprocess.run([*pip, "-w", str(folder), str(ROOT)], check=True, timeout=900)
    return next(folder.glob("rudder_gnn-*.whl"))


@pytest.mark.timeout(900)
def test_wheel_holds_the_package_and_nothing_of_the_tree(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    assert {"rudder/__init__.py", "rudder/_core.pyi", "rudder/py.typed"} <= set(names)
    assert any(name.startswith("rudder/_core.") and name.endswith(".so") for name in names)
    assert {name.split("/")[0].split("-")[0] for name in names} <= {"rudder", "rudder_gnn"}


@pytest.mark.timeout(900)
def test_wheel_runs_beside_numpy_alone(wheel: Path, tmp_path: Path) -> None:
    scratch = tmp_path / "scratch"
    venv.create(scratch, with_pip=False)
    python = scratch / "bin" / "python"
    site = next(scratch.glob("lib/python*/site-packages"))
    # numpy of this environment rather than a download: the test also runs without a network.
    for part in Path(np.__file__).parents[1].glob("numpy*"):
        (site / part.name).symlink_to(part)
    pip = [sys.executable, "-m", "pip", "--python", str(python), "install", "-q", "--no-index", "--no-deps"]
    subprocess.run([*pip, str(wheel)], check=True, timeout=300)

    example = tmp_path / "example.py"
    example.write_text(EXAMPLE)
    run = subprocess.run(
        [str(python), "-I", str(example), str(site)],
        capture_output=True, text=True, cwd=tmp_path, timeout=120,
    )  # fmt: skip
    assert (run.returncode, run.stdout.strip()) == (0, "rows are equal"), run.stderr
