"""All combinations against given peers, and the baselines beside them."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from rudder.bench.far_side import FarSide, RemoteTable
from rudder.bench.measure import Rounds, Subject, Turn, by_probe
from rudder.bench.plain import PlainGather, column_ranges
from rudder.bench.programs import iperf_bytes_per_second
from rudder.bench.result import FetchResult
from rudder.bench.rows import fill
from rudder.bench.settings import TRANSPORTS, FetchSettings
from rudder.bench.transports import Transports
from rudder.errors import RudderError, TransportError
from rudder.source import Bytes, Ids

# Of iperf3 for each number of rows: it leaves out its first second.
_IPERF_S = 3.0


@dataclass
class _Baselines:
    memcpy: Subject
    stream: Subject
    distdgl: Subject | None


class Session:
    """Measures one client process against its peers. `results` does all of it."""

    def __init__(
        self,
        far: FarSide,
        transports: Transports,
        settings: FetchSettings,
        link: str,
        *,
        iperf: bool,
        tell: Callable[[str], None],
        note: Callable[[str], None],
    ) -> None:
        """``iperf``: compare with iperf3, where it is. ``tell``: progress. ``note``: for the reader.

        Raises TransportError for a transport that was named and cannot run.
        """
        self._far, self._transports, self._settings, self._link = far, transports, settings, link
        self._tell, self._note = tell, note
        self._rng = np.random.default_rng(settings.seed)
        self._numbers = iter(range(1, 1 << 30))  # of tables, as transports know them
        self._iperf = iperf and self._find_iperf()
        self._left_out: set[str] = set()

    def results(self) -> Iterator[FetchResult]:
        """Every combination, as soon as it is measured. Raises TransportError."""
        settings = self._settings
        for row_bytes in settings.row_bytes:
            tables = self._far.tables(settings, row_bytes)
            copies = [
                fill(np.empty((table.rows, row_bytes), dtype=np.uint8), settings.seed, peer)
                for peer, table in enumerate(tables, 1)
            ]
            plain = PlainGather(copies)
            for peers in settings.peers:
                for rows in settings.rows:
                    yield from self._combination(plain, tables[:peers], rows)
            self._far.drop(tables)

    def _combination(
        self, plain: PlainGather, tables: Sequence[RemoteTable], rows: int
    ) -> Iterator[FetchResult]:
        settings, row_bytes, peers = self._settings, tables[0].row_bytes, len(tables)
        self._tell(f"{rows:,} rows of {row_bytes:,} bytes from {peers} peer{'s' * (peers > 1)}")
        rounds = Rounds(
            plain,
            table_rows=tables[0].rows,
            row_bytes=row_bytes,
            rows=rows,
            peers=peers,
            most_in_flight=max(settings.in_flight),
            rng=self._rng,
            peers_cpu=self._far.cpu_seconds,
        )
        way = plain.choose(rounds.draw(2), rounds.out[: 2 * rows], peers)
        stream = self._far.stream(tables)
        chunk = stream.choose_chunk(rounds.out)
        self._note(f"{rows} x {row_bytes} B: memcpy gather by {way}, stream in writes of {chunk >> 10} KiB")
        baselines = _Baselines(
            Subject(lambda rows, out: Turn(plain.gather(rows, out, peers))),
            Subject(lambda rows, out: Turn(stream.receive(out, out.nbytes)), delivers=False),
            self._distdgl(row_bytes, peers),
        )
        measured = self._subjects(tables)
        beside = [baselines.memcpy, baselines.stream]
        if baselines.distdgl is not None:
            beside.append(baselines.distdgl)
        try:
            rounds.run([*measured.values(), *beside], settings.seconds, settings.repeats)
        finally:
            stream.close()
        if self._iperf and peers == 1:
            port = self._far.ask(1, "iperf")["port"]
            link_rate = iperf_bytes_per_second(self._far.places[0][0], port, _IPERF_S)
        else:
            link_rate = baselines.stream.rate * row_bytes
        for (name, in_flight), subject in measured.items():
            yield self._result(name, in_flight, subject, baselines, link_rate, rows, row_bytes, peers)

    def _subjects(self, tables: Sequence[RemoteTable]) -> dict[tuple[str, int], Subject]:
        from rudder._core import TransportProbe

        found = {}
        for name in self._settings.transports or TRANSPORTS:
            number = next(self._numbers)
            try:
                transport = self._transports.reach(name, number, tables)
            except RudderError as error:
                if name in self._settings.transports:
                    raise
                self._leave_out(name, str(error))
                continue
            for in_flight in self._settings.in_flight:
                probe = TransportProbe(
                    transport,
                    table=number,
                    row_bytes=tables[0].row_bytes,
                    peers=self._far.peers[: len(tables)],
                    deadline_s=self._settings.deadline_s,
                )
                found[name, in_flight] = by_probe(probe, in_flight)
        if not found:
            raise TransportError("no transport can run here; the notes say why")
        return found

    def _distdgl(self, row_bytes: int, peers: int) -> Subject | None:
        kvstore = self._transports.kvstore
        if kvstore is None:
            self._leave_out("kvstore", self._transports.reasons["kvstore"])
            return None

        def run(rows: Ids, out: Bytes) -> Turn:
            requests, width = rows.shape
            parts = np.empty(width, dtype=np.int64)
            for peer, (begin, end) in enumerate(column_ranges(width, peers), 1):
                parts[begin:end] = peer
            ids = [kvstore.ids(row_bytes, parts, each) for each in rows]
            seconds = 0.0
            latencies = np.empty(requests, dtype=np.int64)
            for r in range(requests):
                began = time.perf_counter_ns()
                pulled = kvstore.pull_ids(row_bytes, ids[r])
                latencies[r] = time.perf_counter_ns() - began
                seconds += latencies[r] / 1e9
                out[r * width : (r + 1) * width] = pulled  # for the comparison: DGL makes a tensor of its own
            return Turn(seconds, latencies)

        return Subject(run)

    def _result(
        self,
        name: str,
        in_flight: int,
        subject: Subject,
        baselines: _Baselines,
        link_rate: float,
        rows: int,
        row_bytes: int,
        peers: int,
    ) -> FetchResult:
        rate = subject.rate
        dgl = baselines.distdgl
        wrong_baseline = not baselines.memcpy.verified or (dgl is not None and not dgl.verified)
        return FetchResult(
            transport=name,
            link=self._link,
            row_bytes=row_bytes,
            rows_per_request=rows,
            in_flight=in_flight,
            peers=peers,
            rows_per_second=rate,
            gigabytes_per_second=rate * row_bytes / 1e9,
            p50_us=subject.percentile(50),
            p99_us=subject.percentile(99),
            p999_us=subject.percentile(99.9),
            ratio_to_memcpy_gather=rate / baselines.memcpy.rate,
            ratio_to_raw_stream=rate * row_bytes / link_rate,
            ratio_to_distdgl_pull=rate / dgl.rate if dgl is not None else None,
            cpu_ns_per_row=subject.cpu / subject.rows * 1e9,
            verified=subject.verified and not wrong_baseline,
        )

    def _find_iperf(self) -> bool:
        found = shutil.which("iperf3") is not None
        self._note(
            "raw stream: iperf3" if found else "raw stream: plain sockets, since iperf3 is not installed"
        )
        return found

    def _leave_out(self, name: str, why: str) -> None:
        if name not in self._left_out:
            self._left_out.add(name)
            self._note(f"left out: {name}: {why}")
