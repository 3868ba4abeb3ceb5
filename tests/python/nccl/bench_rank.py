"""`rudder bench gpu` as a rank of a job runs it, on a GPU that is the stand-in's."""

from __future__ import annotations

import sys

from standin_place import StandInPlace  # beside this script

from rudder.bench import exchange
from rudder.cli import main

exchange.open_place = StandInPlace
sys.argv[1:1] = ["bench", "gpu"]
main()
