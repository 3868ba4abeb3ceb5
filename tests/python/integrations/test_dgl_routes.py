"""The micro-transfer condemns a transport for wrong rows, never for another trainer's writes."""

from __future__ import annotations

import numpy as np

from rudder.integrations.dgl_routes import differ


def rows(*values: int) -> np.ndarray:
    return np.repeat(np.array(values, dtype=np.uint8)[:, None], 4, axis=1)


def no_pull() -> np.ndarray:
    raise AssertionError("equal rows need no second pull")


def test_equal_rows_need_no_second_pull() -> None:
    assert not differ(rows(1, 2, 3), rows(1, 2, 3), no_pull)


def test_a_row_that_nobody_wrote_and_that_is_wrong_condemns() -> None:
    assert differ(rows(1, 9, 3), rows(1, 2, 3), lambda: rows(1, 2, 3))
    assert differ(rows(7, 9, 3), rows(1, 2, 3), lambda: rows(7, 2, 3))


def test_rows_written_meanwhile_say_nothing() -> None:
    assert not differ(rows(1, 7, 3), rows(1, 2, 3), lambda: rows(1, 7, 3))
    # Fetched between two writes: neither pull saw this value.
    assert not differ(rows(1, 6, 3), rows(1, 2, 3), lambda: rows(1, 7, 3))
