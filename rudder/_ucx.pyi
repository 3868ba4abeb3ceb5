"""Contract of the compiled UCX transport, a module of its own: it is built where UCX is found, and imported
by `rudder.ucx` alone, which loads libucp first. See csrc/transport/ucx.

Threads: every method may be called from any thread, and gives the GIL up while it waits.
"""

from __future__ import annotations

from rudder._core import Transport

def library_version() -> str:
    """Version of the UCX library in this process, "1.22.0"."""

class UcxServer:
    """Serves rows of shared-memory segments to admitted sessions, straight from the segments.

    One thread progresses the worker, `threads` others gather rows into staging chunks.
    """

    def __init__(
        self,
        *,
        devices: str = "",
        tls: str = "",
        threads: int = 2,
        staging_bytes: int = ...,
        chunk_bytes: int = ...,
        stall_s: float = 10.0,
        emulate_gets: bool = False,
    ) -> None:
        """``devices``, ``tls``: as UCX_NET_DEVICES and UCX_TLS; "" leaves UCX's own choice.

        ``staging_bytes``: memory of all chunks that wait to be sent; ``chunk_bytes``: the largest chunk.
        ``stall_s``: a client that takes none of its chunks for so long is dismissed. ``emulate_gets``:
        one-sided gets without RDMA, too, for tests. Raises ConfigError, TransportError (no such device, ...).
        """

    @property
    def address(self) -> bytes:
        """The worker's address, for `UcxTransport.connect`."""

    @property
    def hosts(self) -> list[str]:
        """IPv4 addresses that UCX's connections come from, for `UcxTransport.let_in`; none without TCP."""

    @property
    def why_open(self) -> str:
        """Why UCX's ports are open to everybody; "" where only those that were let in can connect."""

    def let_in(self, session: int, hosts: list[str]) -> None:
        """Let UCX connections from these addresses in until the session is dismissed; before `admit`.

        Raises ConfigError for what is no IPv4 address, TransportError where the kernel's filter is full.
        """

    def expose(self, segment: str, rows: int, row_bytes: int, offset: int = 0) -> int:
        """Map a POSIX shared-memory segment read-only; the number of the region.

        The same arguments give the same region. Raises TransportError where the segment is absent, not
        readable or shorter than the rows, ConfigError for rows of no bytes.
        """

    def admit(self, session: int, token: bytes, address: bytes) -> None:
        """Open a session for the client at this worker address; ``token``: 16 secret bytes.

        Raises ConfigError for a number in use, TransportError for an address that UCX refuses.
        """

    def grant(self, session: int, table: int, region: int) -> None:
        """Let a session read a region under a table number of its choice."""

    def offer(self, region: int) -> tuple[int, bytes, str]:
        """Where a region is, the key to read it by one-sided gets, and where that is b"" the reason."""

    def dismiss(self, session: int) -> None:
        """Forget a session: its requests are dropped, its endpoint closed. Unknown numbers are ignored."""

    def dismissed(self) -> list[int]:
        """Sessions that ended by themselves since the last call: peer gone, or stalled."""

    def stats(self) -> dict[str, int]:
        """Totals: "requests", "rows", "bytes", "refused", "sessions" (open now), "staged_bytes" (now)."""

    def close(self) -> None:
        """Stop serving; idempotent."""

class UcxTransport(Transport):
    """Gathers rows from feature servers. One per process serves every table."""

    def __init__(
        self,
        *,
        devices: str = "",
        tls: str = "",
        in_flight_bytes: int = ...,
        chunk_bytes: int = ...,
        emulate_gets: bool = False,
    ) -> None:
        """``in_flight_bytes``: rows asked for and not yet here, for each peer.

        ``emulate_gets``: as `UcxServer` has it. Raises ConfigError, TransportError.
        """

    @property
    def address(self) -> bytes:
        """The worker's address, for `UcxServer.admit`."""

    @property
    def hosts(self) -> list[str]:
        """As `UcxServer.hosts`, for `UcxServer.let_in`."""

    @property
    def why_open(self) -> str:
        """As `UcxServer.why_open`."""

    def let_in(self, peer: int, hosts: list[str]) -> None:
        """As `UcxServer.let_in`, until the peer is disconnected or others take their place."""

    def connect(
        self, peer: int, address: bytes, session: int, token: bytes, version: str, place: str
    ) -> None:
        """Reach the partition's server from now on; replaces the connection that was, failing its gathers.

        ``version``: of the server's UCX, as `library_version` has it; ``place``: as `Transport.place` has it.
        Raises TransportError for an address
        that UCX refuses.
        """

    def open(
        self,
        peer: int,
        table: int,
        rows: int,
        row_bytes: int,
        at: int = 0,
        key: bytes = b"",
        why_no_key: str = "",
    ) -> None:
        """The server has granted this table: `reach` is possible, and row numbers are checked against it.

        ``at``, ``key``, ``why_no_key``: of `UcxServer.offer`.
        """

    def why_no_gets(self, peer: int, table: int) -> str:
        """Why a table's rows cannot come by one-sided gets; "" where they can."""

    def use_gets(self, peer: int, table: int, on: bool) -> None:
        """Have rows come by one-sided gets, where they are possible, or (at first) by requests.

        It outlasts a connection that is lost and made anew.
        """

    def disconnect(self, peer: int, why: str) -> None:
        """Fail the gathers under way and refuse later ones until the next `connect`."""

    def connected(self, peer: int) -> bool: ...
    def next_loss(self) -> tuple[int, int, str] | None:
        """Wait until a connection is lost: (peer, session, why). None once the transport is closed.

        The peer may have a later session by then. One thread waits for the losses of all peers; each is told
        once.
        """

    def stats(self) -> dict[str, int]:
        """Totals: "requests", "rows", "bytes", "errors", "in_flight_bytes" (now)."""
