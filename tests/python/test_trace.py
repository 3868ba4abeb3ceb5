"""Recorded accesses: what is written is read again, up to the last whole frame."""

from __future__ import annotations

import contextlib
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from rudder import ArraySource, Options, Plan, Prefetcher, trace
from rudder.errors import FormatError


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
    read = trace.read(path)
    assert len(read) == len(remote)
    assert not read.truncated
    for number, ids in enumerate(remote):
        assert np.array_equal(read[number], ids)
    assert read.header["tensor"] == "features"
    assert read.header["row_bytes"] == 6
    # Every minibatch but the last, whose training nobody saw end, has its three times.
    assert np.isfinite(read.seconds[:-1]).all()
    assert (read.seconds[:-1] >= 0).all()


def test_a_file_cut_anywhere_is_readable_up_to_its_last_whole_minibatch(tmp_path: Path) -> None:
    path, remote = record(tmp_path)
    whole = path.read_bytes()
    lengths = set()
    for cut in range(200, len(whole), 997):
        path.write_bytes(whole[:cut])
        try:
            read = trace.read(path)
        except FormatError:
            assert cut < 2000  # the header itself
            continue
        lengths.add(len(read))
        for number in range(len(read)):
            assert np.array_equal(read[number], remote[number])
    assert len(lengths) > 3


def test_a_flipped_bit_ends_the_file_there(tmp_path: Path) -> None:
    path, remote = record(tmp_path)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 16
    path.write_bytes(data)
    read = trace.read(path)
    assert read.truncated
    assert len(read) < len(remote)


def test_other_files_and_versions_are_refused(tmp_path: Path) -> None:
    path, _ = record(tmp_path)
    other = tmp_path / "other.trace"
    other.write_bytes(b"something else")
    with pytest.raises(FormatError, match="not a Rudder trace"):
        trace.read(other)
    other.write_bytes(path.read_bytes().replace(b'"version": 1', b'"version": 9', 1))
    with pytest.raises(FormatError):
        trace.read(other)


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
    read = trace.read(path)
    assert [read[number].tolist() for number in range(len(read))] == [[100, 300], [200]]
    assert read.num_halo == 2
    np.savez(path, ids=np.zeros(1))
    with pytest.raises(FormatError):
        trace.read(path)


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
