"""The benchmark's near side as a process of its own, so that whatever DistDGL does to it ends with it.

`python -m rudder.bench.client`: one JSON object per line on both streams. First {"mode", "places",
"settings", "link", "iperf"} in, and the secret in the environment. In mode "sweep" results come out; in mode
"crowd" it does what crowd.py asks.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from typing import Any

import numpy as np

from rudder.bench.far_side import FarSide
from rudder.bench.measure import Rounds, by_probe
from rudder.bench.outlet import Outlet
from rudder.bench.plain import PlainGather
from rudder.bench.rows import fill
from rudder.bench.session import Session
from rudder.bench.settings import FetchSettings
from rudder.bench.transports import Transports
from rudder.errors import RudderError, TransportError
from rudder.launch.child import die_with_parent
from rudder.serve.secret import secret_of_job


def sweep(request: dict[str, Any], outlet: Outlet) -> None:
    """Measure all combinations; a line for each."""
    settings = FetchSettings.from_json(request["settings"])
    secret = secret_of_job()
    far = FarSide(_places(request), secret)
    outlet.send(progress="connecting" + (", and starting DistDGL's servers" if settings.dgl else ""))
    transports = Transports(far, settings, secret, dgl=settings.dgl)
    try:
        session = Session(
            far,
            transports,
            settings,
            request["link"],
            iperf=request["iperf"],
            tell=lambda words: outlet.send(progress=words),
            note=lambda words: outlet.send(note=words),
        )
        for result in session.results():
            outlet.send(result=result.as_json())
    finally:
        far.close()
        transports.close()


def crowd(request: dict[str, Any], outlet: Outlet) -> None:
    """Be one of several clients: prepare a combination, then a burst for each "go"."""
    settings = FetchSettings.from_json(request["settings"])
    secret = secret_of_job()
    far = FarSide(_places(request), secret)
    transports = Transports(far, settings, secret, dgl=False)
    rng = np.random.default_rng(settings.seed + os.getpid())
    number = 0
    outlet.send(ready=True)
    try:
        for line in sys.stdin:
            number += 1
            _bursts(json.loads(line), number, far, transports, settings, rng, outlet)
    finally:
        far.close()
        transports.close()


def _bursts(
    what: dict[str, Any],
    number: int,
    far: FarSide,
    transports: Transports,
    settings: FetchSettings,
    rng: np.random.Generator,
    outlet: Outlet,
) -> None:
    """Prepare what is asked for, then one burst for each number of requests on stdin, until 0."""
    from rudder._core import TransportProbe

    row_bytes, rows, in_flight = what["row_bytes"], what["rows"], what["in_flight"]
    tables = far.tables(settings, row_bytes)
    copies = [
        fill(np.empty((table.rows, row_bytes), dtype=np.uint8), settings.seed, peer)
        for peer, table in enumerate(tables, 1)
    ]
    plain = PlainGather(copies)
    try:
        transport = transports.reach(what["transport"], number, tables)
    except TransportError as error:
        outlet.send(left_out=str(error))
        return
    probe = TransportProbe(
        transport,
        table=number,
        row_bytes=row_bytes,
        peers=far.peers,
        deadline_s=settings.deadline_s,
    )
    rounds = Rounds(
        plain,
        table_rows=tables[0].rows,
        row_bytes=row_bytes,
        rows=rows,
        peers=len(tables),
        most_in_flight=in_flight,
        rng=rng,
        peers_cpu=lambda: 0.0,
    )
    subject = by_probe(probe, in_flight)
    rounds.run([subject], settings.seconds / settings.repeats, 1)
    outlet.send(prepared=subject.requests)
    while (requests := int(sys.stdin.readline() or 0)) > 0:
        drawn = rounds.draw(requests)
        out = rounds.out[: drawn.size]
        outlet.send(drawn=True)
        sys.stdin.readline()  # the others have drawn theirs, too
        began = time.monotonic()
        probe.run(drawn, out, in_flight)
        ended = time.monotonic()
        outlet.send(began=began, ended=ended, rows=drawn.size)
        sys.stdin.readline()  # the others have ended: comparing takes nothing from them
        outlet.send(verified=plain.same(drawn, out, len(tables)))


def _places(request: dict[str, Any]) -> list[tuple[str, int]]:
    return [(host, port) for host, port in request["places"]]


def main() -> None:
    """Entry point."""
    die_with_parent(int(os.environ.pop("RUDDER_PARENT")))
    outlet = Outlet()
    request = json.loads(sys.stdin.readline())
    if request["mode"] == "sweep":
        # Nothing more is said to it: the end of stdin is the parent's.
        threading.Thread(target=_end_with_stdin, daemon=True).start()
    code = 0
    try:
        {"sweep": sweep, "crowd": crowd}[request["mode"]](request, outlet)
        outlet.send(done=True)
    except RudderError as error:
        outlet.send(error=str(error), kind=type(error).__name__)
        code = 1
    # Without DGL's exit function, which waits for other trainers.
    os._exit(code)


def _end_with_stdin() -> None:
    sys.stdin.read()
    os._exit(1)


if __name__ == "__main__":
    main()
