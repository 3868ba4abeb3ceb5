"""The agent of a job: a keeper per host, with one model for its trainers, and what these are told of it."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

import rudder.agent.worker
from rudder.agent.llm import ENV_MODEL
from rudder.agent.worker.client import ENV_ADDRESS
from rudder.agent.worker.settings import Room, WorkerSettings, absolute_model
from rudder.launch.plan import FOLDER, Host, Job, Process

_SCRIPT = str(Path(rudder.agent.worker.__file__).with_name("keeper.py"))
#: A process of this role may end at any time: the last good plan stays then.
ROLE = "agent"
#: The controller that needs keepers.
CONTROLLER = "agent"


@dataclass(frozen=True)
class Keepers:
    """One per host, with this model and this room for it."""

    model: str = ""
    room: Room = field(default_factory=Room)

    def env(self, host: Host) -> dict[str, str]:
        """For the trainers of a host."""
        return {ENV_ADDRESS: _address(host), ENV_MODEL: self.model, **self.room.env()}

    def process(self, host: Host, job: Job) -> Process:
        """The one of a host."""
        return Process(
            f"host{host.number} {ROLE}",
            ROLE,
            host.number,
            host.number,
            [_SCRIPT, WorkerSettings(self.model, self.room, address=_address(host)).to_json()],
            {**job.env, "RUDDER_HOST": str(host.number), "PYTHONUNBUFFERED": "1"},
        )


def planned(job: Job) -> Keepers | None:
    """Keepers where the job's controller is the agent; what it does not name is as the environment says.

    Raises ConfigError.
    """
    if job.controller != CONTROLLER:
        return None
    return Keepers(
        job.agent_model or absolute_model(os.environ.get(ENV_MODEL, "")),
        Room.here(job.agent_context, job.agent_threads),
    )


def _address(host: Host) -> str:
    # In a folder that this user alone may enter, so who can connect may.
    return f"{FOLDER}/agent{host.number}.sock"
