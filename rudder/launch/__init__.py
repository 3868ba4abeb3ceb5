"""Starts DistDGL jobs: servers, samplers and trainers, on this machine, over ssh or inside a SLURM
allocation."""

from rudder.launch.events import Line
from rudder.launch.job import JobResult, ProcessStatus
from rudder.launch.plan import Job
from rudder.launch.start import run_ip_config, run_local, run_slurm

__all__ = ["Job", "JobResult", "Line", "ProcessStatus", "run_ip_config", "run_local", "run_slurm"]
