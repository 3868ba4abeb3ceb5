"""Where a job runs, as commands are told it: on this machine, over ssh, or inside a SLURM allocation."""

from __future__ import annotations

import os
import shlex
from dataclasses import dataclass

from rudder.errors import ConfigError
from rudder.launch.job import JobResult, OnLine, StopRequest
from rudder.launch.plan import Job
from rudder.launch.start import DEFAULT_MASTER_PORT, run_ip_config, run_local, run_namespaces, run_slurm


@dataclass(frozen=True)
class Place:
    """`local` hosts on this machine, or those of an `ip_config` file over `ssh`; with neither, the nodes of
    the SLURM allocation.

    port: first port of each host's servers. python: on other machines. netns, rate: with `local`, a network
    namespace per host, and what its link may carry.
    """

    local: int | None = None
    ip_config: str | None = None
    port: int | None = None
    master_port: int = DEFAULT_MASTER_PORT
    ssh: str = "ssh"
    python: str = "python3"
    netns: bool = False
    rate: str | None = None

    def run(self, job: Job, on_line: OnLine, stop: StopRequest) -> JobResult:
        """Run the job there, see `rudder.launch.start`. Raises ConfigError for settings that do not go
        together."""
        shaped = self.netns or self.rate
        if shaped and self.local is None:
            raise ConfigError("--netns and --rate shape the links of --local hosts: add --local HOSTS")
        if self.local is not None and self.ip_config is not None:
            raise ConfigError("--local and --ip-config exclude each other")
        if self.local is not None and shaped:
            return run_namespaces(job, self.local, rate=self.rate, on_line=on_line, stop=stop)
        if self.local is not None:
            return run_local(job, self.local, port=self.port, on_line=on_line, stop=stop)
        if self.ip_config is not None:
            if self.port is not None:
                raise ConfigError("with --ip-config, ports stand behind the addresses in the file")
            return run_ip_config(
                job,
                self.ip_config,
                ssh=shlex.split(self.ssh),
                python=self.python,
                master_port=self.master_port,
                on_line=on_line,
                stop=stop,
            )
        if os.environ.get("SLURM_JOB_NODELIST"):
            return run_slurm(
                job,
                port=self.port,
                python=self.python,
                master_port=self.master_port,
                on_line=on_line,
                stop=stop,
            )
        raise ConfigError("where should the job run? --local, --ip-config FILE, or inside a SLURM allocation")
