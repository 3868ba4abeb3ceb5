"""What a job consists of, as plain values: hosts, processes and their environments. Starts nothing."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rudder.agent.controller import check_controller
from rudder.agent.llm import ENV_MODEL
from rudder.config import ENV_CONTROLLER, ENV_SHARE_MEMORY, ENV_SHARES
from rudder.errors import ConfigError, FormatError

if TYPE_CHECKING:
    from rudder.launch.features import FeatureServers
    from rudder.launch.keepers import Keepers

# Stand in arguments and environments for the address file, which each machine writes for itself, and for the
# folder of the job's own files there.
IP_CONFIG = "{ip_config}"
FOLDER = "{job_folder}"


@dataclass(frozen=True)
class Host:
    """One machine of the job, or one that plays its part on this machine."""

    number: int
    address: str  # IPv4: where its servers listen
    port: int  # of its first server; the others follow
    name: str = ""  # how to reach the machine (ssh, srun); empty: here

    def server_ports(self, servers: int) -> list[tuple[str, int]]:
        """(address, port) of each of its servers."""
        return [(self.address, self.port + i) for i in range(servers)]


@dataclass(frozen=True)
class Process:
    """One process to start."""

    name: str  # as the logs call it: "host0 trainer1"
    role: str  # "server", "feature server", "agent" or "trainer"; samplers are started by their trainer
    host: int
    rank: int  # server id, the trainer's rank in the job, or the feature server's host
    argv: list[str]  # script and arguments
    env: dict[str, str] = field(repr=False)  # has the job's secret


@dataclass(frozen=True)
class Job:
    """Everything about a job that does not depend on how its machines are reached."""

    script: str
    args: Sequence[str]
    part_config: str
    trainers: int = 1  # per host
    samplers: int = 0  # per trainer
    servers: int = 1  # per host; 0 for a script that does without DGL's
    feature_servers: bool = True  # one per host, where UCX is
    feature_threads: int = 2  # that gather rows, in each
    graph_format: str = "csc"
    env: dict[str, str] = field(default_factory=dict)  # for every process
    trainer_env: dict[str, str] = field(default_factory=dict)
    out: str | None = None
    run: str = ""  # tells this job's metrics from those that others left in `out`; set when it starts
    record: str | None = None
    controller: str = ""  # of scripts that name none; "": the default one
    # GGUF file or address, a classifier's labelled decisions; "": the model that comes with the package
    agent_model: str = ""
    agent_context: int | None = None  # tokens; None: as the environment says
    agent_threads: int | None = None  # the same
    share_memory: bool = False  # between the buffers of a host's trainers

    def check(self, hosts: int) -> None:
        """Raise ConfigError or FormatError where the job cannot run on so many hosts."""
        for what, count, least in (
            ("trainers", self.trainers, 1),
            ("samplers", self.samplers, 0),
            ("servers", self.servers, 0),
            ("feature threads", self.feature_threads, 1),
            ("hosts", hosts, 1),
        ):
            if count < least:
                raise ConfigError(f"{what} must be at least {least}, not {count}")
        if self.controller:
            check_controller(self.controller)
        if self.share_memory and self.trainers < 2:
            raise ConfigError("memory can be shared only by several trainers of a host: add --trainers 2")
        if not Path(self.script).is_file():
            raise ConfigError(f"no script {self.script}: give the path of a Python file after '--'")
        parts = read_num_parts(self.part_config)
        if parts != hosts:
            raise ConfigError(
                f"{self.part_config} has {parts} partitions for {hosts} hosts: DGL needs one per host;"
                f" use {parts} hosts, or partition the graph into {hosts}"
            )


def read_num_parts(part_config: str) -> int:
    """The number of partitions that a DGL partition file describes."""
    try:
        text = Path(part_config).read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(
            f"no partition file {part_config} ({error.strerror}): `rudder partition` writes one"
        ) from error
    try:
        return int(json.loads(text)["num_parts"])
    except (ValueError, KeyError, TypeError) as error:
        raise FormatError(f"{part_config} is not a DGL partition file: {error!r}") from error


def parse_ip_config(path: str) -> list[Host]:
    """Hosts of a DGL address file: one `address [port]` per line, first port 30050 where none is given."""
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise ConfigError(f"no address file {path} ({error.strerror})") from error
    hosts: list[Host] = []
    for line in lines:
        fields = line.split()
        if not fields or fields[0].startswith("#"):
            continue
        if len(fields) > 2 or (len(fields) == 2 and not fields[1].isdigit()):
            raise FormatError(f"{path}: expected 'address [port]', got {line!r}")
        port = int(fields[1]) if len(fields) == 2 else DEFAULT_PORT
        hosts.append(Host(len(hosts), fields[0], port, name=fields[0]))
    if not hosts:
        raise FormatError(f"{path} names no host")
    return hosts


DEFAULT_PORT = 30050  # DGL's own: its servers count up from it where the address file gives no port


def ip_config_text(hosts: Sequence[Host]) -> str:
    """The address file that DGL reads."""
    return "".join(f"{host.address} {host.port}\n" for host in hosts)


def plan_processes(
    job: Job,
    hosts: Sequence[Host],
    *,
    master: tuple[str, int],
    shared_memory: bool,
    features: FeatureServers | None = None,
    keepers: Keepers | None = None,
) -> list[Process]:
    """Servers first, then trainers, host by host.

    master: address and port of torch.distributed's rendezvous, on the first host.
    shared_memory: whether all hosts live on this machine and can open each other's segments.
    features: the feature servers that run beside DGL's. keepers: the agent's, beside them.
    """
    clients = job.trainers * (1 + job.samplers) * len(hosts)
    world = job.trainers * len(hosts)
    fill = {"{part_config}": job.part_config, "{out}": job.out or ""}
    args = [_fill(arg, fill) for arg in job.args]
    planned: list[Process] = []
    of_host: dict[int, dict[str, str]] = {}
    for host in hosts:
        visible = [h.number for h in hosts] if shared_memory else [host.number]
        of_host[host.number] = common = {
            **job.env,
            "RUDDER_HOST": str(host.number),
            "RUDDER_LOCAL_HOSTS": ",".join(map(str, visible)),
            "DGL_IP_CONFIG": IP_CONFIG,
            "DGL_CONF_PATH": job.part_config,
            "DGL_NUM_SERVER": str(job.servers),
            "DGL_NUM_CLIENT": str(clients),
            "DGL_NUM_SAMPLER": str(job.samplers),
            "DGL_GRAPH_FORMAT": job.graph_format,
            "PYTHONUNBUFFERED": "1",
            **({"RUDDER_OUT": job.out, "RUDDER_RUN": job.run} if job.out else {}),
        }
        for i in range(job.servers):
            server = host.number * job.servers + i
            # One thread: a server answers one request at a time, and shares its machine with the trainers.
            env = {
                "OMP_NUM_THREADS": "1",
                **common,
                "DGL_ROLE": "server",
                "DGL_SERVER_ID": str(server),
            }
            planned.append(
                Process(
                    f"host{host.number} server{i}", "server", host.number, server, [job.script, *args], env
                )
            )
        if features is not None:
            planned.append(features.process(host, job))
        if keepers is not None:
            planned.append(keepers.process(host, job))
    for host in hosts:
        for i in range(job.trainers):
            rank = host.number * job.trainers + i
            env = {
                **of_host[host.number],
                "DGL_ROLE": "client",
                "DGL_DIST_MODE": "distributed",
                "DGL_GROUP_ID": "0",
                "MASTER_ADDR": master[0],
                "MASTER_PORT": str(master[1]),
                "RANK": str(rank),
                "WORLD_SIZE": str(world),
                "LOCAL_RANK": str(i),
                "LOCAL_WORLD_SIZE": str(job.trainers),
                "GROUP_RANK": str(host.number),
                "OMP_NUM_THREADS": job.env.get("OMP_NUM_THREADS", os.environ.get("OMP_NUM_THREADS", "1")),
                **({"RUDDER_RECORD": job.record} if job.record else {}),
                **(features.env(hosts) if features is not None else {}),
                **(keepers.env(host) if keepers is not None else {}),
                ENV_SHARES: f"{FOLDER}/shares{host.number}",
                **({ENV_SHARE_MEMORY: "1"} if job.share_memory else {}),
                **({ENV_CONTROLLER: job.controller} if job.controller else {}),
                **({ENV_MODEL: job.agent_model} if job.agent_model else {}),
                **job.trainer_env,
            }
            planned.append(
                Process(
                    f"host{host.number} trainer{i}", "trainer", host.number, rank, [job.script, *args], env
                )
            )
    return planned


def _fill(text: str, values: dict[str, str]) -> str:
    for key, value in values.items():
        text = text.replace(key, value)
    return text


def process_to_json(process: Process) -> dict[str, Any]:
    """For the wire between launcher and agents."""
    return asdict(process)


def process_from_json(data: dict[str, Any]) -> Process:
    """Inverse of `process_to_json`."""
    return Process(**data)
