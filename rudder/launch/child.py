"""Runs one script as one process of a job: `python -m rudder.launch.child SCRIPT ARG...`.

The script runs unmodified as `__main__`. Around it:

- the process dies with its parent (PR_SET_PDEATHSIG), so a killed launcher leaves nothing running;
- rudder is imported first, so DGL imports on current torch and knows which host it is on;
- a script that fails ends its process at once. DGL registers an exit function that waits for all other
  trainers, so a trainer that raised would otherwise never end, and nobody would learn why the job stands
  still.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import sys
import time
import traceback
import types
from pathlib import Path
from typing import NoReturn

_PR_SET_PDEATHSIG = 1
# How long a failed process may take to write its last metrics; the job waits for its end.
_LAST_WORDS_S = 2.0


def die_with_parent(parent: int) -> None:
    """Ask the kernel to kill this process when `parent` ends; end now if it has ended already."""
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(1)


def run_script(argv: list[str]) -> None:
    """Execute the script as `__main__`, as `python SCRIPT ARG...` would."""
    script = argv[0]
    sys.argv = list(argv)
    sys.path[0] = str(Path(script).resolve().parent)
    # Not runpy.run_path: it puts the old __main__ back when the script ends, but DGL's exit functions,
    # threads and pickles of the script's classes still look for the script's own.
    main = types.ModuleType("__main__")
    main.__file__ = script
    main.__dict__["__builtins__"] = __builtins__
    sys.modules["__main__"] = main
    exec(compile(Path(script).read_bytes(), script, "exec"), main.__dict__)


def _fail(code: int, text: str) -> NoReturn:
    """Tell the launcher when and why, write the last metrics, then end without DGL's exit functions."""
    report = os.environ.get("RUDDER_FAILURE_FILE")
    if report:
        temporary = Path(report + ".new")
        temporary.write_text(json.dumps({"failed_at": time.time(), "traceback": text}), encoding="utf-8")
        temporary.rename(report)
    sys.stdout.flush()
    print(text, file=sys.stderr, end="", flush=True)
    try:
        from rudder import lifetime

        lifetime.close_failed(_LAST_WORDS_S)
    finally:  # whatever comes between, a second Ctrl-C say
        os._exit(code)


def main() -> None:
    """Entry point; never returns when the script failed."""
    die_with_parent(int(os.environ.pop("RUDDER_PARENT")))
    import rudder  # noqa: F401  (installs the import hooks)

    try:
        run_script(sys.argv[1:])
    except SystemExit as end:
        if end.code not in (None, 0):
            code = end.code if isinstance(end.code, int) else 1
            _fail(code, "" if isinstance(end.code, int) else f"{end.code}\n")
    except KeyboardInterrupt:
        _fail(128 + signal.SIGINT, "KeyboardInterrupt\n")
    except BaseException as error:
        # The frames of this file and of exec are not the user's concern.
        trace = error.__traceback__
        while trace is not None and trace.tb_frame.f_code.co_filename == __file__:
            trace = trace.tb_next
        _fail(1, "".join(traceback.format_exception(type(error), error, trace)))
    else:
        if os.environ.get("DGL_ROLE") == "server":
            _fail(
                1, f"{sys.argv[0]} ended in the server's role without calling dgl.distributed.initialize()\n"
            )


if __name__ == "__main__":
    main()
