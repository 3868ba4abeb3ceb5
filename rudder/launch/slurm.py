"""What the launcher needs to know of the SLURM allocation it runs in."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess

from rudder.errors import LaunchError


def node_names() -> list[str]:
    """Names of the allocation's nodes, in SLURM's order. Raises LaunchError outside of an allocation."""
    nodes = os.environ.get("SLURM_JOB_NODELIST")
    if not nodes:
        raise LaunchError(
            "not inside a SLURM allocation (SLURM_JOB_NODELIST is not set): use salloc or sbatch"
        )
    for program in ("scontrol", "srun"):
        if shutil.which(program) is None:
            raise LaunchError(f"inside a SLURM allocation, but there is no program {program} on PATH")
    done = subprocess.run(["scontrol", "show", "hostnames", nodes], capture_output=True, text=True)
    names = done.stdout.split()
    if done.returncode != 0 or not names:
        raise LaunchError(f"scontrol cannot expand the node list {nodes!r}: {done.stderr.strip()}")
    return names


def resolve(name: str) -> str:
    """IPv4 address of a node: DGL's address file wants numbers."""
    try:
        return str(socket.getaddrinfo(name, None, socket.AF_INET, socket.SOCK_STREAM)[0][4][0])
    except OSError as error:
        raise LaunchError(f"node {name} has no IPv4 address that this node can find: {error}") from error


def step_command(node: str, python: str) -> list[str]:
    """The command that runs an agent as a job step on one node of the allocation."""
    return [
        "srun",
        "--nodes=1",
        "--ntasks=1",
        f"--nodelist={node}",
        "--overlap",  # all steps share the allocation's cores with one another
        "--unbuffered",
        "--export=ALL",
        python,
        "-m",
        "rudder.launch.agent",
    ]
