"""Recorded accesses: what is written is read again, up to the last whole frame."""

from __future__ import annotations

import contextlib
import re
import struct
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from rudder import ArraySource, Options, Plan, Prefetcher, trace
from rudder.errors import FormatError
from rudder.replay import load_case
from rudder.replay.read import read

FRAME = struct.Struct("<cII")


@given(hnp.arrays(np.int64, st.integers(1, 200), elements=st.integers(0, 2**62)))
def test_ids_round_trip_in_order(ids: np.ndarray) -> None:
    assert np.array_equal(trace.decode_ids(trace.encode_ids(ids)), ids)


@given(st.binary(max_size=60))
def test_bytes_that_are_no_ids_are_a_format_error(data: bytes) -> None:
    with contextlib.suppress(FormatError):
        assert trace.decode_ids(data).ndim == 1


def record(folder: Path, minibatches: int = 20) -> tuple[Path, list[np.ndarray]]:
    """A recorded run; its file and the remote ids of each minibatch."""
    rows = np.arange(3000, dtype=np.int16).reshape(1000, 3)
    rng = np.random.default_rng(1)
    asked = [rng.permutation(1000)[:120] for _ in range(minibatches)]
    options = Options(capacity=0.1, plan=Plan(interval=4), prior="none", record=folder)
    with Prefetcher(ArraySource(rows, [0, 400, 1000]), options) as table:
        for ids in table.iterate(asked, epochs=1):
            table[ids]
    return folder / "rank-0.features.trace", [ids[ids >= 400] for ids in asked]


def test_a_recorded_run_reads_back_exactly(tmp_path: Path) -> None:
    path, remote = record(tmp_path)
    found = read(path)
    assert len(found) == len(remote)
    assert not found.truncated
    for number, ids in enumerate(remote):
        assert np.array_equal(found[number], ids)
    header = found.header
    assert header is not None
    assert header["tensor"] == "features"
    assert header["row_bytes"] == 6
    # Every minibatch but the last, whose training nobody saw end, has its three times.
    assert np.isfinite(found.seconds[:-1]).all()
    assert (found.seconds[:-1] >= 0).all()


def test_a_file_cut_anywhere_is_readable_up_to_its_last_whole_minibatch(tmp_path: Path) -> None:
    path, remote = record(tmp_path)
    whole = path.read_bytes()
    lengths = set()
    for cut in range(200, len(whole), 997):
        path.write_bytes(whole[:cut])
        try:
            found = read(path)
        except FormatError:
            assert cut < 2000  # the header itself
            continue
        lengths.add(len(found))
        for number in range(len(found)):
            assert np.array_equal(found[number], remote[number])
    assert len(lengths) > 3


def test_a_flipped_bit_ends_the_file_there(tmp_path: Path) -> None:
    path, remote = record(tmp_path)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 16
    path.write_bytes(data)
    found = read(path)
    assert found.truncated
    assert len(found) < len(remote)


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, bytes, list[np.ndarray]]:
    """A file to damage, what a whole one holds, and the remote ids of each minibatch."""
    path, remote = record(tmp_path_factory.mktemp("recorded"))
    return path, path.read_bytes(), remote


def frames_of(data: bytes) -> list[tuple[int, int]]:
    """Where the payload of each frame begins and ends."""
    found, at = [], len(trace.MAGIC)
    while at < len(data):
        _, length, _ = FRAME.unpack_from(data, at)
        found.append((at + FRAME.size, at + FRAME.size + length))
        at += FRAME.size + length
    return found


def loads(path: Path, remote: list[np.ndarray]) -> None:
    """Whole minibatches from the first on, or a FormatError; nothing else."""
    try:
        found = read(path)
    except FormatError:
        return
    assert len(found) <= len(remote)
    for number in range(len(found)):
        assert np.array_equal(found[number], remote[number])
    with contextlib.suppress(FormatError):
        assert len(load_case(path)) == len(found)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_damage_costs_what_follows_it_or_is_a_format_error(
    recorded: tuple[Path, bytes, list[np.ndarray]], data: st.DataObject
) -> None:
    path, whole, remote = recorded
    damaged = bytearray(whole)
    for _ in range(data.draw(st.integers(0, 3))):
        damaged[data.draw(st.integers(0, len(whole) - 1))] ^= data.draw(st.integers(1, 255))
    path.write_bytes(damaged[: data.draw(st.integers(0, len(whole)))])
    loads(path, remote)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_a_frame_that_holds_nonsense_is_a_format_error_at_worst(
    recorded: tuple[Path, bytes, list[np.ndarray]], data: st.DataObject
) -> None:
    """Its check sum is right: some other program wrote it."""
    path, whole, _ = recorded
    begin, end = data.draw(st.sampled_from(frames_of(whole)))
    kind = data.draw(st.sampled_from([b"H", b"F", b"E", b"R", b"I", b"D", b"C", b"B", b"V", b"T", b"?"]))
    payload = data.draw(st.binary(max_size=40)) + whole[begin:end][: data.draw(st.integers(0, 100))]
    path.write_bytes(whole[: begin - FRAME.size] + trace.frame(kind, payload) + whole[end:])
    with contextlib.suppress(FormatError):
        load_case(path)


def test_nonsense_of_every_kind_is_a_format_error(
    recorded: tuple[Path, bytes, list[np.ndarray]],
) -> None:
    path, whole, _ = recorded
    (_, header_ends), *_ = frames_of(whole)
    for kind in (b"F", b"E", b"B", b"V", b"T"):
        path.write_bytes(whole[:header_ends] + trace.frame(kind, b"\x07"))
        with pytest.raises(FormatError, match=rf"{re.escape(str(path))}: frame 1 \({kind.decode()}\) cannot"):
            read(path)
    for header in (b"\xff", b"{", b"[]", b'{"version": 1}', b'{"version": 1, "rows": 4}'):
        path.write_bytes(trace.MAGIC + trace.frame(b"H", header))
        with pytest.raises(FormatError, match=re.escape(str(path))):
            load_case(path)


def test_ids_outside_of_the_table_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "wide.trace"
    ids = np.array([1, 9])
    for rows in (9, 10):
        path.write_bytes(trace.MAGIC + trace.header_frame({"rows": rows}) + trace.call_frame("read", 0, ids))
        if rows == 10:
            assert read(path)[0].tolist() == [1, 9]
            continue
        with pytest.raises(FormatError, match="9 rows"):
            read(path)


def test_other_files_and_versions_are_refused(tmp_path: Path) -> None:
    path, _ = record(tmp_path)
    other = tmp_path / "other.trace"
    other.write_bytes(b"something else")
    with pytest.raises(FormatError, match="not a Rudder trace"):
        read(other)
    other.write_bytes(path.read_bytes().replace(b'"version": 1', b'"version": 9', 1))
    with pytest.raises(FormatError):
        read(other)


def test_npz_traces_give_global_ids(tmp_path: Path) -> None:
    path = tmp_path / "small.npz"
    np.savez(
        path,
        ids=np.array([0, 2, 1], dtype=np.int32),
        offsets=np.array([0, 2, 3]),
        nodes=np.array([100, 200, 300]),
        vip=np.ones(3),
        degree=np.ones(3),
        num_halo=2,
    )
    found = read(path)
    assert [found[number].tolist() for number in range(len(found))] == [[100, 300], [200]]
    assert found.halo_rows == 2
    np.savez(path, **{**dict(np.load(path)), "nodes": np.array([100, 200, 200])})
    with pytest.raises(FormatError, match="twice"):
        read(path)
    np.savez(path, **{**dict(np.load(path)), "nodes": np.array([100, 200])})
    with pytest.raises(FormatError, match="of 2 nodes"):
        read(path)
    np.savez(path, ids=np.zeros(1))
    with pytest.raises(FormatError):
        read(path)


def test_about_two_bytes_an_access(tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    ids = rng.permutation(2**17)[:20_000].astype(np.int64)
    assert len(trace.encode_ids(ids)) <= 2.5 * len(ids)


def test_reads_without_a_loader_are_written_before_the_end(tmp_path: Path) -> None:
    rows = np.arange(3000, dtype=np.int16).reshape(1000, 3)
    options = Options(capacity=0.1, prior="none", record=tmp_path)
    path = tmp_path / "rank-0.features.trace"
    with Prefetcher(ArraySource(rows, [0, 400, 1000]), options) as table:
        begun = path.stat().st_size
        until = time.monotonic() + 60
        table[np.arange(400, 1000)]
        while path.stat().st_size <= begun:
            assert time.monotonic() < until, "nothing was written"
            time.sleep(0.001)
