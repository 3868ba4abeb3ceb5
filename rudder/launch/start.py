"""Starts a job on this machine, over ssh, or inside a SLURM allocation. The commands and `rudder demo` both
call these."""

from __future__ import annotations

import os
import uuid
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from rudder.agent.worker.settings import absolute_model
from rudder.launch import features, keepers, netns, ports, slurm
from rudder.launch.job import JobResult, JobRun, OnLine, StopRequest
from rudder.launch.plan import DEFAULT_PORT, Host, Job, ip_config_text, parse_ip_config, plan_processes
from rudder.launch.remote import Agent, ssh_command
from rudder.launch.supervise import Supervisor
from rudder.run_folder import clear

DEFAULT_MASTER_PORT = 29500  # torch's own choice


def run_local(
    job: Job,
    hosts: int,
    *,
    port: int | None = None,
    on_line: OnLine | None = None,
    stop: StopRequest | None = None,
) -> JobResult:
    """Run `job` with `hosts` hosts on this machine; no rights needed. Blocks until everything has ended and
    is cleaned up.

    Host i has the address 127.0.0.(i+1). `port`: first port of every host's servers; by default free ones
    are found. `on_line` gets every line that a process writes, on the calling thread. Raises ConfigError,
    FormatError, LaunchError where the job cannot start; a job that fails later says so in its result.
    """
    job = _resolve(job)
    job.check(hosts)
    # The rendezvous listens on every address, so its port must be free, and stay free, on all of them.
    own = range(port, port + job.servers) if port else ()
    master = ("127.0.0.1", ports.free_port("0.0.0.0", but=own))
    places = []
    for number in range(hosts):
        address = f"127.0.0.{number + 1}"
        first = port or ports.free_port(address, job.servers, but=master[1:])
        places.append(Host(number, address, first))
    # gloo would look for the address of this machine's name; all hosts are behind the loopback interface.
    job = replace(job, env={"GLOO_SOCKET_IFNAME": "lo", **job.env})
    job = _open_folder(job)
    own_ports = {host.address: range(host.port, host.port + job.servers) for host in places}
    beside = features.planned_here(
        job, places, lambda host: ports.free_port(host.address, but=[*own_ports[host.address], master[1]])
    )
    planned = plan_processes(
        job, places, master=master, shared_memory=True, features=beside, keepers=keepers.planned(job)
    )
    run = JobRun(planned, on_line, stop)
    supervisor = Supervisor(planned, ip_config_text(places), run.emit)
    supervisor.start([*(pair for host in places for pair in host.server_ports(job.servers)), master])
    return run.finish([supervisor])


def run_namespaces(
    job: Job,
    hosts: int,
    *,
    rate: str | None = None,
    on_line: OnLine | None = None,
    stop: StopRequest | None = None,
) -> JobResult:
    """Run `job` with each host in a network namespace of its own, joined by a bridge; root only.

    rate: what every host may send per second, as `tc` spells it ("1gbit"). Each host has its own /dev/shm
    and IPC namespace, so rows really cross the link. Raises LaunchError naming what is missing where this
    cannot run.
    """
    job = _resolve(job)
    job.check(hosts)
    netns.check_possible(rate)
    places = [Host(number, netns.address(number), DEFAULT_PORT) for number in range(hosts)]
    job = replace(
        job, env={"GLOO_SOCKET_IFNAME": netns.INTERFACE, "NCCL_SOCKET_IFNAME": netns.INTERFACE, **job.env}
    )
    with netns.Network(rate) as network:
        commands = [network.host_command() for _ in places]
        beside = features.planned_here(job, places, lambda host: host.port + job.servers)
        return _run_agents(
            job, places, commands, DEFAULT_MASTER_PORT, on_line, stop, beside, prepare=network.attach
        )


def run_ip_config(
    job: Job,
    ip_config: str,
    *,
    ssh: Sequence[str] = ("ssh",),
    python: str = "python3",
    master_port: int = DEFAULT_MASTER_PORT,
    on_line: OnLine | None = None,
    stop: StopRequest | None = None,
) -> JobResult:
    """Run `job` on the machines of a DGL address file, reached over ssh without a password.

    The script, the partitions and this directory must have the same paths on every machine, and `python`
    there must have rudder. `ssh` may carry options, e.g. ("ssh", "-p", "2222").
    """
    job = _resolve(job)
    places = parse_ip_config(ip_config)
    job.check(len(places))
    commands = [ssh_command(ssh, host.name, python) for host in places]
    beside = features.planned_elsewhere(job, places)
    return _run_agents(job, places, commands, master_port, on_line, stop, beside)


def run_slurm(
    job: Job,
    *,
    port: int | None = None,
    python: str = "python3",
    master_port: int = DEFAULT_MASTER_PORT,
    on_line: OnLine | None = None,
    stop: StopRequest | None = None,
) -> JobResult:
    """Run `job` on the nodes of the SLURM allocation that this process is in; one host per node, by
    `srun`."""
    job = _resolve(job)
    names = slurm.node_names()
    job.check(len(names))
    places = [Host(i, slurm.resolve(name), port or DEFAULT_PORT, name) for i, name in enumerate(names)]
    commands = [slurm.step_command(host.name, python) for host in places]
    beside = features.planned_elsewhere(job, places)
    return _run_agents(job, places, commands, master_port, on_line, stop, beside)


def _resolve(job: Job) -> Job:
    """Paths become absolute."""
    return replace(
        job,
        script=os.path.abspath(job.script),
        part_config=os.path.abspath(job.part_config),
        out=os.path.abspath(job.out) if job.out else None,
        record=os.path.abspath(job.record) if job.record else None,
        agent_model=absolute_model(job.agent_model),
    )


def _open_folder(job: Job) -> Job:
    """The run's folder exists, without metrics of an earlier one. REQUIRES: the settings were checked."""
    if not job.out:
        return job
    Path(job.out).mkdir(parents=True, exist_ok=True)
    clear(Path(job.out))
    return replace(job, run=uuid.uuid4().hex)


def _run_agents(
    job: Job,
    places: Sequence[Host],
    commands: Sequence[Sequence[str]],
    master_port: int,
    on_line: OnLine | None,
    stop: StopRequest | None,
    beside: features.FeatureServers | None,
    prepare: netns.Attach | None = None,
) -> JobResult:
    master = (places[0].address, master_port)
    job = _open_folder(job)
    planned = plan_processes(
        job, places, master=master, shared_memory=False, features=beside, keepers=keepers.planned(job)
    )
    run = JobRun(planned, on_line, stop)
    agents: list[Agent] = []
    try:
        for host, command in zip(places, commands):
            agent = Agent(host.number, command, run.emit, mount_shm=prepare is not None)
            agents.append(agent)
            if prepare is not None:
                prepare(host.number, agent.pid)
        for host, agent in zip(places, agents):
            wanted = host.server_ports(job.servers) + ([master] if host.number == 0 else [])
            own = [process for process in planned if process.host == host.number]
            agent.begin(own, ip_config_text(places), wanted)
        return run.finish(agents)
    finally:
        for agent in agents:
            agent.close()
