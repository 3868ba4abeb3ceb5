"""Who may use whom, and what `import rudder` may load (CONTRIBUTING.md, "Layers")."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
CSRC = ROOT / "csrc"

# Module of csrc/ -> modules it may include, besides itself.
MAY_USE: dict[str, set[str]] = {
    "common": set(),
    "memory": {"common"},
    "buffer": {"common", "memory"},
    "policy": {"common"},
    "window": {"common"},
    "transport": {"common", "memory"},
    "transport/nccl": {"common", "memory", "cuda"},  # a library of its own
    "plan": {"common"},
    "cuda": {"common", "memory"},
    "ledger": {"common", "policy", "window"},
    "replay": {"common", "policy", "window", "ledger"},
    "shadow": {"common"},
    "fetch": {"common", "memory", "buffer", "transport"},
    "prefetcher": {
        "common",
        "memory",
        "buffer",
        "policy",
        "window",
        "ledger",
        "transport",
        "fetch",
        "plan",
        "cuda",
    },
}

# Headers that belong to one place. Pattern of the header -> pattern of the files that may include it.
FOREIGN_HEADERS = [
    (r"(Python\.h|pybind11/|torch/|ATen/|c10/|numpy/|dlpack/)", r"(?!)"),
    (r"(ucp|ucs|uct|ucm)/", r"transport/ucx/.*"),
    (r"nccl\.h", r"(?!)"),  # transport/nccl declares what it calls
    (r"(cuda\w*\.h|cub/|thrust/|cooperative_groups)", r"cuda/native/.*"),
]

INCLUDE = re.compile(r'^[ \t]*#[ \t]*include[ \t]*(?:"([^"]+)"|<([^>]+)>)', re.MULTILINE)


def faults_of_source(path: str, text: str) -> list[str]:
    """What is wrong with the includes of the file `path` (relative to csrc/) that holds `text`."""
    faults = []
    module = path.split("/")[0]
    if module not in MAY_USE:
        faults.append(f"{path}: module {module!r} has no line in MAY_USE")
    may_use = MAY_USE.get("/".join(path.split("/")[:2]), MAY_USE.get(module, set()))
    for quoted, angled in INCLUDE.findall(text):
        header = quoted or angled
        for pattern, allowed in FOREIGN_HEADERS:
            if re.match(pattern, header) and not re.fullmatch(allowed, path):
                faults.append(f"{path}: {header} must not be included here")
        if not quoted:
            continue
        used = header.split("/")[0]
        if "/" not in header:
            faults.append(f'{path}: write {header} with its module: "module/{header}"')
        elif used != module and used not in may_use:
            faults.append(f"{path}: {module} must not use {used} ({header})")
    return faults


def python_imports(text: str) -> set[str]:
    """Dotted names of all modules that `text` imports absolutely, anywhere in it."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            found.add(node.module)
            found.update(f"{node.module}.{alias.name}" for alias in node.names)
    return found


def sources(*suffixes: str) -> list[str]:
    return sorted(str(p.relative_to(CSRC)) for p in CSRC.rglob("*") if p.suffix in suffixes)


@pytest.mark.parametrize("path", sources(".h", ".cc", ".cu", ".cuh"))
def test_core_includes_only_what_its_layer_may_use(path: str) -> None:
    assert faults_of_source(path, (CSRC / path).read_text()) == []


@pytest.mark.parametrize("header", sources(".h"))
def test_every_quoted_include_of_a_header_exists(header: str) -> None:
    quoted = [name for name, _ in INCLUDE.findall((CSRC / header).read_text()) if name]
    assert [name for name in quoted if not (CSRC / name).exists()] == []


def test_every_module_of_the_core_has_a_rule() -> None:
    modules = {p.name for p in CSRC.iterdir() if p.is_dir() and any(p.rglob("*.*"))}
    assert modules <= set(MAY_USE)


@pytest.mark.parametrize(
    ("path", "line"),
    [
        ("transport/shm.cc", '#include "cuda/calls.h"'),
        ("transport/nccl/worker.cc", '#include "buffer/slots.h"'),
        ("policy/lru.cc", '#include "buffer/slots.h"'),
        ("policy/lru.cc", '#include "prefetcher/prefetcher.h"'),
        ("policy/lru.cc", '#include "lru.h"'),
        ("memory/arena.h", "#  include <Python.h>"),
        ("common/types.h", "#include <torch/torch.h>"),
        ("transport/transport.h", "#include <ucp/api/ucp.h>"),
        ("transport/nccl/nccl_api.cc", "#include <nccl.h>"),
        ("memory/arena.cc", "#include <cuda_runtime.h>"),
        ("cuda/device.cc", "#include <cuda_runtime_api.h>"),
        ("memory/arena.cc", '#include "cuda/device.h"'),
        ("prefetcher/prefetcher.cc", "#include <pybind11/pybind11.h>"),
        ("newcomer/x.h", '#include "common/types.h"'),
    ],
)
def test_the_rules_find_a_breach(path: str, line: str) -> None:
    assert faults_of_source(path, f"#pragma once\n{line}\n") != []


@pytest.mark.parametrize(
    ("path", "line"),
    [
        ("policy/lru.cc", '#include "policy/lru.h"'),
        ("fetch/engine.cc", '#include "transport/transport.h"'),
        ("transport/ucx/endpoint.cc", "#include <ucp/api/ucp.h>"),
        ("cuda/native/gather.cu", "#include <cuda_runtime_api.h>"),
        ("prefetcher/owner.cc", '#include "cuda/gather.h"'),
        ("prefetcher/prefetcher.cc", '#include "ledger/ledger.h"'),
    ],
)
def test_the_rules_allow_what_they_should(path: str, line: str) -> None:
    assert faults_of_source(path, line) == []


def test_only_integrations_import_dgl() -> None:
    # The demo's training script stands for a user's: it is run by name and imported by nobody.
    scripts = {ROOT / "rudder" / "demo" / "train.py"}
    offenders = [
        str(path.relative_to(ROOT))
        for path in sorted((ROOT / "rudder").rglob("*.py"))
        if "integrations" not in path.parts
        and path not in scripts
        and any(name.split(".")[0] == "dgl" for name in python_imports(path.read_text()))
    ]
    assert offenders == []


def test_the_agent_needs_no_compiled_core() -> None:
    offenders = [
        str(path.relative_to(ROOT))
        for path in sorted((ROOT / "rudder" / "agent").rglob("*.py"))
        if any(name.startswith("rudder._core") for name in python_imports(path.read_text()))
    ]
    assert offenders == []


def test_who_plays_and_who_learns_is_used_from_above_alone() -> None:
    # Package -> first parts of the modules that may import it.
    above = {
        "rudder.pilot": {"pilot", "cli", "bench"},
        "rudder.rollout": {"rollout", "pilot", "cli", "bench"},
    }
    offenders = [
        f"{path.relative_to(ROOT)}: {package}"
        for path in sorted((ROOT / "rudder").rglob("*.py"))
        for package, users in above.items()
        if path.relative_to(ROOT / "rudder").parts[0] not in users
        and any(f"{name}.".startswith(f"{package}.") for name in python_imports(path.read_text()))
    ]
    assert offenders == []


def test_import_loads_numpy_only() -> None:
    heavy = ["torch", "dgl", "typer", "rich", "pandas", "scipy", "matplotlib", "llama_cpp", "libucx"]
    code = f"import sys, rudder; print([m for m in {heavy!r} if m in sys.modules])"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd="/", timeout=60)
    assert (run.returncode, run.stdout.strip()) == (0, "[]"), run.stderr
