"""The peers of a benchmark, as its client sees them."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from rudder.bench.channel import Channel, enter
from rudder.bench.raw_stream import StreamClient
from rudder.bench.settings import FetchSettings


@dataclass(frozen=True)
class RemoteTable:
    """A peer's table."""

    name: str
    segment: str
    rows: int
    row_bytes: int


class FarSide:
    """Conversations with every peer; peer number i (from 1) is partition i. Partition 0 is the client's."""

    def __init__(self, places: Sequence[tuple[str, int]], secret: bytes) -> None:
        """Connect. Raises TransportError where a peer cannot be reached, or refuses."""
        self.places = list(places)
        self._channels: list[Channel] = []
        try:
            for host, port in places:
                self._channels.append(enter(host, port, secret))
        except BaseException:
            self.close()
            raise
        #: This process's address, as the peers know it.
        self.own_address = self._channels[0].own_address

    @property
    def peers(self) -> list[int]:
        """Their numbers."""
        return list(range(1, len(self.places) + 1))

    def tables(self, settings: FetchSettings, row_bytes: int) -> list[RemoteTable]:
        """Have every peer make its table."""
        rows = settings.table_rows(row_bytes)
        asked = {"seed": settings.seed, "rows": rows, "row_bytes": row_bytes}
        answers = self.ask_all("table", [{"peer": peer, **asked} for peer in self.peers])
        return [RemoteTable(each["name"], each["segment"], rows, row_bytes) for each in answers]

    def drop(self, tables: Sequence[RemoteTable]) -> None:
        """Let tables go."""
        self.ask_all("drop", [{"name": table.name} for table in tables])

    def stream(self, tables: Sequence[RemoteTable]) -> StreamClient:
        """Streams from the peers of these tables."""
        answers = self.ask_all("stream", [{"name": table.name} for table in tables])
        return StreamClient(
            [
                (host, answer["port"], bytes.fromhex(answer["token"]))
                for (host, _), answer in zip(self.places, answers)
            ]
        )

    def cpu_seconds(self) -> float:
        """CPU time of all peers so far, DGL's servers included."""
        return float(sum(answer["seconds"] for answer in self.ask_all("cpu")))

    def ask(self, peer: int, do: str, /, **values: Any) -> dict[str, Any]:
        """Ask one peer."""
        return self._channels[peer - 1].ask(do, **values)

    def ask_all(self, do: str, values: Sequence[dict[str, Any]] | None = None) -> list[dict[str, Any]]:
        """Ask the peers, all at once, each with its own values; as many peers as there are values."""
        each = values if values is not None else [{}] * len(self._channels)
        if len(each) == 1:
            return [self._channels[0].ask(do, **each[0])]
        with ThreadPoolExecutor(len(each)) as threads:
            return list(threads.map(lambda pair: pair[0].ask(do, **pair[1]), zip(self._channels, each)))

    def close(self) -> None:
        """End the conversations: the peers forget everything."""
        for channel in self._channels:
            channel.close()
