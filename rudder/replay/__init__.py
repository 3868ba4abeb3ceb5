"""The replay lab: recorded accesses through the policies of the live engine, against what no policy can beat.

`load` reads a trace, `run` replays it under the settings of a `Request`, `cost` turns rows into time and
memory, `table` and `plot` show the outcomes, `expected` compares them with counts that are known.
"""

from rudder.replay.load import Case, find_traces, load_case
from rudder.replay.outcome import Outcome
from rudder.replay.run import replay_case, replay_files
from rudder.replay.settings import Request, Window

__all__ = ["Case", "Outcome", "Request", "Window", "find_traces", "load_case", "replay_case", "replay_files"]
