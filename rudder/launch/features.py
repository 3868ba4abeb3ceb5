"""The feature servers of a job, one per host beside DGL's servers, and what its trainers are told of them."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import rudder.serve
from rudder import ucx
from rudder.launch.plan import Host, Job, Process
from rudder.serve.places import ENV_SERVERS
from rudder.serve.secret import ENV_SECRET, new_secret

_log = logging.getLogger("rudder")
_SCRIPT = str(Path(rudder.serve.__file__).with_name("__main__.py"))
#: A process of this role may end at any time: rows come by another transport then.
ROLE = "feature server"


@dataclass(frozen=True)
class FeatureServers:
    """Where they listen, by host, and the secret of this job's processes."""

    ports: Sequence[int]
    secret: str = field(default_factory=new_secret, repr=False)

    def env(self, hosts: Sequence[Host]) -> dict[str, str]:
        """For the trainers."""
        named = ",".join(f"{host.address}:{port}" for host, port in zip(hosts, self.ports))
        return {ENV_SERVERS: named, ENV_SECRET: self.secret}

    def process(self, host: Host, job: Job) -> Process:
        """The one of a host."""
        settings = {
            "partition": host.number,
            "address": host.address,
            "port": self.ports[host.number],
            "threads": job.feature_threads,
        }
        return Process(
            f"host{host.number} {ROLE}",
            ROLE,
            host.number,
            host.number,
            [_SCRIPT, json.dumps(settings)],
            {**job.env, "RUDDER_HOST": str(host.number), "PYTHONUNBUFFERED": "1", ENV_SECRET: self.secret},
        )


def planned_here(job: Job, hosts: Sequence[Host], port: Callable[[Host], int]) -> FeatureServers | None:
    """Feature servers for hosts that this machine plays; None where the job wants none, or UCX is not
    usable."""
    reason = ucx.why_not() if job.feature_servers else "the job wants none"
    if reason is not None:
        _log.info("no feature servers: %s", reason)
        return None
    return FeatureServers([port(host) for host in hosts])


def planned_elsewhere(job: Job, hosts: Sequence[Host]) -> FeatureServers | None:
    """Feature servers for other machines, at the port behind DGL's; one without UCX says so itself."""
    return FeatureServers([host.port + job.servers for host in hosts]) if job.feature_servers else None
