"""The job of `rudder prior`: a process for each partition, and no server."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

from rudder.launch.plan import Job
from rudder.partition.prior import TrainedWith

#: What a process's line begins with that reports on its partition, in JSON; other lines are for people.
REPORT = "rudder-prior-report "
_SCRIPT = str(Path(__file__).with_name("prior_worker.py"))


def prior_job(part_config: str, trained_with: TrainedWith) -> Job:
    """Raises ConfigError for fanouts that cannot be."""
    return Job(
        script=_SCRIPT,
        args=["{part_config}", json.dumps(asdict(trained_with.plain()))],
        part_config=part_config,
        servers=0,
        feature_servers=False,
    )
