"""The process of one partition, as `rudder prior` starts it: PART_CONFIG SETTINGS, the latter JSON.

Its last line is the partition's report: `REPORT`, then a JSON object.
"""

from __future__ import annotations

import json
import os
import sys
from dataclasses import asdict

import torch.distributed as dist

from rudder.partition.job import REPORT
from rudder.partition.prior import TrainedWith, make_prior
from rudder.vip.exchange import TIMEOUT, TorchExchange


def main() -> None:
    """Entry point; `rudder launch` says which partition this host has."""
    part_config, settings = sys.argv[1:]
    part = int(os.environ["RUDDER_HOST"])
    dist.init_process_group("gloo", timeout=TIMEOUT)
    exchange = TorchExchange(part, dist.get_world_size())
    report = make_prior(part_config, part, exchange, TrainedWith(**json.loads(settings)))
    # A process that leaves early breaks the connections of those that still read.
    dist.barrier()
    dist.destroy_process_group()
    print(REPORT + json.dumps(asdict(report)), flush=True)


if __name__ == "__main__":
    main()
