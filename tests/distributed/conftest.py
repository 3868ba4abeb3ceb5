"""Graphs that real DistDGL processes load, made once per test session."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

RING_NODES = 600
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def ring_parts(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Partition file of a ring in two random parts: node i gets edges from i+1 .. i+5; `feats[i, c]` = 3 i
    + c, `orig[i]` = i.

    Every query says from a node's number alone whether an answer is right; random parts make 5 of 10 edges
    remote.
    """
    pytest.importorskip("torch")
    import rudder  # noqa: F401  (lets DGL import)

    dgl = pytest.importorskip("dgl")
    import torch

    folder = tmp_path_factory.mktemp("ring")
    nodes = torch.arange(RING_NODES)
    src = torch.cat([(nodes + step) % RING_NODES for step in range(1, 6)])
    graph = dgl.graph((src, nodes.repeat(5)), num_nodes=RING_NODES)
    graph.ndata["orig"] = nodes
    graph.ndata["feats"] = torch.stack([nodes * 3 + column for column in range(8)], 1)
    dgl.distributed.partition_graph(graph, "ring", 2, str(folder), part_method="random")
    return str(folder / "ring.json")


@pytest.fixture
def workers() -> Path:
    """Folder of the scripts that tests launch."""
    return Path(__file__).parent / "workers"


class Launcher:
    """Runs `rudder launch` as users do, and knows afterwards whether anything of it is left."""

    def __init__(self, folder: Path) -> None:
        self.mark = f"launch-test-{uuid.uuid4().hex}"
        self.folder = folder
        self.started: list[subprocess.Popen[str]] = []
        self.begin = time.time()

    def start(self, *args: str, env: dict[str, str] | None = None) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-m", "rudder.cli", "launch", *args],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**os.environ, "MARK": self.mark, "PYTHONPATH": _importable(), **(env or {})},
        )
        self.started.append(process)
        return process

    def run(self, *args: str, env: dict[str, str] | None = None) -> tuple[int, str]:
        """Exit code and everything it wrote."""
        process = self.start(*args, env=env)
        output, _ = process.communicate(timeout=120)
        return process.returncode, output

    def read_until(self, process: subprocess.Popen[str], text: str, times: int = 1) -> str:
        """Everything up to the line in which `text` appears for that time."""
        seen = ""
        assert process.stdout is not None
        for line in process.stdout:
            seen += line
            times -= text in line
            if times == 0:
                return seen
        raise AssertionError(f"ended without {text!r}:\n{seen}")

    def processes(self) -> list[psutil.Process]:
        """Live processes that the launchers of this test started, directly or not, and they themselves."""
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                if process.environ().get("MARK") == self.mark and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
        return found

    def segments(self) -> list[str]:
        """Segments and temporary folders, made since this test began, whose launcher or agent is gone."""
        names = []
        segments = Path("/dev/shm").glob("rudder.*")
        for path in (*segments, *Path(tempfile.gettempdir()).glob("rudder-launch-*")):
            with contextlib.suppress(FileNotFoundError):
                pid = int(path.name.replace("rudder-launch-", "rudder.").split(".")[1].split("-")[1])
                if path.stat().st_mtime >= self.begin - 1 and not psutil.pid_exists(pid):
                    names.append(path.name)
        return names

    def nothing_left(self) -> None:
        """Assert that every process and segment goes away; those of a killed launcher need a moment."""
        deadline = time.monotonic() + 20
        while self.processes() or self.segments():
            assert time.monotonic() < deadline, (self.processes(), self.segments())
            time.sleep(0.02)


def _importable() -> str:
    import rudder

    root = str(Path(rudder.__file__).resolve().parents[1])
    return os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))


@pytest.fixture
def launcher(tmp_path: Path) -> Iterator[Launcher]:
    """A Launcher; whatever the test did, nothing may be left of it."""
    made = Launcher(tmp_path)
    try:
        yield made
        made.nothing_left()
    finally:
        for process in made.processes():
            with contextlib.suppress(psutil.Error):
                process.kill()


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where `rudder demo` keeps partitions; they are made once for all tests."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def demo(launcher: Launcher, cache: Path) -> Callable[..., subprocess.Popen[str]]:
    """Starts `rudder demo`; its processes are the launcher's to account for."""

    def start(*args: str, env: dict[str, str] | None = None) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-m", "rudder.cli", "demo", *args],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={
                **os.environ,
                "MARK": launcher.mark,
                "RUDDER_CACHE": str(cache),
                "PYTHONPATH": _importable(),
                **(env or {}),
            },
        )
        launcher.started.append(process)
        return process

    return start


@pytest.fixture
def shell(launcher: Launcher, tmp_path: Path) -> Callable[..., str]:
    """Runs lines of the documentation in a folder that looks like a checkout; returns what they wrote."""

    def run(lines: str, timeout: float = 120) -> str:
        examples = tmp_path / "examples"
        if not examples.exists():
            examples.symlink_to(ROOT / "examples")
        process = subprocess.Popen(
            ["bash", "-euo", "pipefail", "-c", 'rudder() { python -m rudder.cli "$@"; }\n' + lines],
            cwd=tmp_path,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={
                **os.environ,
                "MARK": launcher.mark,
                "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
                "PYTHONPATH": _importable(),
            },
        )
        launcher.started.append(process)
        output, _ = process.communicate(timeout=timeout)
        assert process.returncode == 0, output
        return output

    return run


@pytest.fixture
def sh_blocks() -> Callable[[str], list[str]]:
    """The shell blocks of a document, in order."""
    return lambda name: re.findall(r"```sh\n(.*?)```", (ROOT / name).read_text(encoding="utf-8"), re.DOTALL)


@pytest.fixture
def walk_through(sh_blocks: Callable[[str], list[str]]) -> str:
    """The commands of README that end with training the example."""
    (found,) = [block for block in sh_blocks("README.md") if "examples/node_classification.py" in block]
    return found


@pytest.fixture
def two_parts(tmp_path: Path) -> str:
    """A partition file that says two parts and names none: enough for scripts without DGL."""
    path = tmp_path / "two.json"
    path.write_text('{"num_parts": 2}')
    return str(path)
