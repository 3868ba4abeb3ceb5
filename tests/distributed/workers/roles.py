"""Plays its role in a job without DGL: servers wait, trainers do what the first argument says.

Argument 2, where given, is the host whose trainer does it; the others wait. A `child` outlives its trainer
and holds on to its pipes.
"""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

action = sys.argv[1]
chosen = len(sys.argv) < 3 or sys.argv[2] == os.environ["RUDDER_HOST"]
role = os.environ["DGL_ROLE"]
# A segment as DGL names them, which only the launcher can remove.
Path(f"/dev/shm/rudder.{os.environ['RUDDER_JOB']}.h{os.environ['RUDDER_HOST']}.{role}").write_text("rows")
print(f"{role} runs", flush=True)


done = Path(f"/dev/shm/rudder.{os.environ['RUDDER_JOB']}.h{os.environ['RUDDER_HOST']}.done")


def wait_for_ever() -> None:
    while True:
        signal.pause()


def wait_for_trainer() -> None:
    while not done.exists():
        time.sleep(0.02)


if role == "server":
    if action == "server-fails" and chosen:
        raise RuntimeError("the server's own words")
    if action == "server-forgets":
        sys.exit(0) if not chosen else None
    elif action == "env":
        wait_for_trainer()
        sys.exit(0)
    else:
        wait_for_ever()
elif not chosen or action in ("wait", "server-fails", "server-forgets"):
    wait_for_ever()
elif action == "raise":
    raise ValueError("the trainer's own words")
elif action == "exit":
    sys.exit(7)
elif action == "killed":
    os.kill(os.getpid(), signal.SIGKILL)
elif action == "child":
    subprocess.Popen([sys.executable, "-c", "import signal; signal.pause()"])
elif action == "env":
    names = sorted(name for name in os.environ if name.startswith(("DGL_", "RUDDER_", "MASTER_")))
    names += ["RANK", "WORLD_SIZE", "LOCAL_RANK", "MARK"]
    for name in names:
        if name in os.environ:
            print(f"{name}={os.environ[name]}")
    print(f"main={sys.modules['__main__'].__file__}")
    done.touch()
elif action == "save":
    try:
        print("ready to save", flush=True)
        wait_for_ever()
    except KeyboardInterrupt:
        print("saved before the end", flush=True)
elif action == "deaf":
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    print("heard nothing", flush=True)
    wait_for_ever()
