"""Ranks meet, strangers stay outside."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import threading

import pytest
from nccl_ranks import ThreadStore, run_ranks

from rudder.errors import DeadlineError, TransportError
from rudder.nccl.mesh import Meeting, connect


def test_every_rank_is_connected_to_every_other() -> None:
    store = ThreadStore()

    def body(rank: int) -> set[int]:
        sockets = connect(Meeting(store, "mesh", rank, 4, 30.0), "127.0.0.1")
        assert sockets[rank] == -1
        for peer, made in enumerate(sockets):
            if peer != rank:
                os.write(made, bytes([rank]))
        heard = {os.read(made, 1)[0] for peer, made in enumerate(sockets) if peer != rank}
        for made in sockets:
            if made >= 0:
                os.close(made)
        return heard

    assert run_ranks(4, body) == [{0, 1, 2, 3} - {rank} for rank in range(4)]


def test_a_stranger_does_not_get_in_and_does_not_keep_others_out() -> None:
    store = ThreadStore()
    door_is_open, knocked = threading.Event(), threading.Event()
    tell = store.set

    def watched(key: str, value: bytes) -> None:
        tell(key, value)
        if key.endswith("/door/0"):
            door_is_open.set()

    store.set = watched  # type: ignore[method-assign]

    def body(rank: int) -> None:
        if rank == 0:
            connect(Meeting(store, "door", 0, 2, 30.0), "127.0.0.1")
            return
        door_is_open.wait()
        host, port = json.loads(store.get("rudder/nccl/door/door/0"))
        # Until it is shown out: it may have said more than was read.
        with socket.create_connection((host, port)) as stranger, contextlib.suppress(ConnectionResetError):
            stranger.sendall(b"GET / HTTP/1.1\r\nHost: a-host-of-some-length.example\r\n\r\n")
            while stranger.recv(1024):
                pass
        knocked.set()
        connect(Meeting(store, "door", 1, 2, 30.0), "127.0.0.1")

    run_ranks(2, body)
    assert knocked.is_set()


def test_another_secret_is_refused() -> None:
    store = ThreadStore()

    class Liar(ThreadStore):
        def get(self, key: str) -> bytes:
            return b"another" if "secret" in key else store.get(key)

    def body(rank: int) -> None:
        if rank == 0:
            with pytest.raises(DeadlineError, match=r"ranks \[1\] did not come") as caught:
                connect(Meeting(store, "lie", 0, 2, 1.0), "127.0.0.1")
            assert caught.value.part == 1
        else:
            with pytest.raises(TransportError, match="rank 0 did not let this one in"):
                connect(Meeting(Liar(), "lie", 1, 2, 30.0), "127.0.0.1")

    run_ranks(2, body)


def test_a_store_that_gives_up_is_a_missing_rank() -> None:
    class Empty(ThreadStore):
        def get(self, key: str) -> bytes:
            raise RuntimeError("wait timeout after 1000ms")

    with pytest.raises(DeadlineError, match="rank 1 did not come to the exchange") as caught:
        Meeting(Empty(), "empty", 0, 2, 1.0).hear("rows", 1)
    assert caught.value.part == 1
