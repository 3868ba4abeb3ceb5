"""The near side of each transport: made as training makes it, or a reason why it cannot be."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from rudder.bench.far_side import FarSide, RemoteTable
from rudder.bench.programs import DglServer
from rudder.bench.settings import FetchSettings
from rudder.errors import RudderError, TransportError
from rudder.launch.ports import free_port
from rudder.source import Bytes, Ids

if TYPE_CHECKING:
    from rudder._core import Transport
    from rudder.integrations.dgl_kvstore import KvClient, Layout
    from rudder.serve.connector import Connector

_HOW_TO_GET_DGL = "pip install 'rudder-gnn[dgl]'"


class Transports:
    """The transports of one client process. `open` each table, then `reach` them."""

    def __init__(self, far: FarSide, settings: FetchSettings, secret: bytes, *, dgl: bool = True) -> None:
        """``dgl``: start DistDGL's servers, which takes seconds; there can be one such client only."""
        self._far = far
        #: What cannot run here, and why.
        self.reasons: dict[str, str] = {}
        self._connector: Connector | None = None
        self._own_server: DglServer | None = None
        self.kvstore: KvPull | None = None
        wanted = settings.transports or ("shm", "ucx")
        if "ucx" in wanted:
            try:
                self._connector = _connect(far, secret)
            except RudderError as error:
                self.reasons["ucx"] = str(error)
        if not dgl:
            self.reasons["kvstore"] = "DistDGL's pull was left out"
        elif importlib.util.find_spec("dgl") is None:
            self.reasons["kvstore"] = f"dgl is not installed: {_HOW_TO_GET_DGL}"
        else:
            try:
                self.kvstore, self._own_server = _start_dgl(far, settings)
            except (RudderError, OSError) as error:
                self.reasons["kvstore"] = str(error)

    def reach(self, name: str, number: int, tables: Sequence[RemoteTable]) -> Transport:
        """A transport that reaches these tables (of peers 1, 2, ...) under a number that was not used before.

        Raises TransportError where it cannot.
        """
        if name in self.reasons:
            raise TransportError(self.reasons[name])
        made: Transport = getattr(self, f"_reach_{name}")(number, tables)
        return made

    def _reach_shm(self, number: int, tables: Sequence[RemoteTable]) -> Transport:
        from rudder._core import ShmTransport

        transport = ShmTransport()
        for peer, table in enumerate(tables, 1):
            transport.attach(peer, number, table.segment, table.rows, table.row_bytes)
        return transport

    def _reach_ucx(self, number: int, tables: Sequence[RemoteTable]) -> Transport:
        assert self._connector is not None
        for peer, table in enumerate(tables, 1):
            self._connector.open(peer, number, table.name, table.rows, table.row_bytes)
        return self._connector.transport

    def _reach_kvstore(self, number: int, tables: Sequence[RemoteTable]) -> Transport:
        from rudder._core import CallbackTransport

        assert self.kvstore is not None
        kvstore, row_bytes = self.kvstore, tables[0].row_bytes
        return CallbackTransport("kvstore", lambda _, parts, rows: kvstore.pull(row_bytes, parts, rows))

    def close(self) -> None:
        """Let servers of this process go. What DGL holds ends with the process."""
        if self._connector is not None:
            self._connector.close()
        if self._own_server is not None:
            self._own_server.close()


class KvPull:
    """DistDGL's pull by peers and row numbers."""

    def __init__(self, client: KvClient, layout: Layout) -> None:
        """Made by Transports."""
        self._client, self._layout = client, layout

    def ids(self, row_bytes: int, parts: Ids, rows: Ids) -> Ids:
        """The ids that DGL knows these rows by; ``parts`` owns the row in the same place of ``rows``."""
        starts = np.array([self._layout.first_id(host, row_bytes) for host in range(self._layout.hosts)])
        ids: Ids = starts[parts] + rows
        return ids

    def pull_ids(self, row_bytes: int, ids: Ids) -> Bytes:
        """The stock pull."""
        return self._client.pull(row_bytes, ids)

    def pull(self, row_bytes: int, parts: Ids, rows: Ids) -> Bytes:
        """The stock pull, by peers."""
        return self.pull_ids(row_bytes, self.ids(row_bytes, parts, rows))


def _connect(far: FarSide, secret: bytes) -> Connector:
    from rudder import ucx
    from rudder.serve.connector import Connector

    ucx.load()  # before any peer is asked: it says how to get UCX
    answers = far.ask_all("ucx", [{"peer": peer} for peer in far.peers])
    doors = [(host, int(answer["port"])) for (host, _), answer in zip(far.places, answers)]
    # Partition 0 is this process's: its address says which interface to use.
    return Connector([(far.own_address, 0), *doors], secret, own=0)


def _start_dgl(far: FarSide, settings: FetchSettings) -> tuple[KvPull, DglServer]:
    from rudder.integrations.dgl_kvstore import KvClient, Layout

    ports = [int(answer["port"]) for answer in far.ask_all("dgl_port")]
    hosts = [
        (far.own_address, free_port(far.own_address)),
        *((host, port) for (host, _), port in zip(far.places, ports)),
    ]
    layout = Layout(len(hosts), {each: settings.table_rows(each) for each in settings.row_bytes})
    spec = {"hosts": hosts, "rows": layout.rows, "seed": settings.seed}
    far.ask_all("dgl", [{"server": peer, **spec} for peer in far.peers])
    own = DglServer({"server": 0, **spec})
    os.environ["RUDDER_HOST"] = "0"
    return KvPull(KvClient(hosts, layout), layout), own
