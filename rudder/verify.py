"""Verification: every batch compared, bit for bit, with what the stock pull returns for the same ids."""

from __future__ import annotations

import numpy as np

from rudder.errors import VerifyError
from rudder.meter import Meter
from rudder.source import Bytes, FeatureSource, Ids


class Verifier:
    """Counts rows that differ in the metrics, and raises VerifyError for them where it is told to."""

    def __init__(self, source: FeatureSource, meter: Meter, *, raises: bool) -> None:
        """Compare with ``source.pull``."""
        self._source, self._meter, self._raises = source, meter, raises

    def compare(self, ids: Ids, rows: Bytes) -> None:
        """Check rows (uint8 [n, row_bytes]) that are about to be handed out."""
        differing = np.flatnonzero((self._source.pull(ids) != rows).any(axis=1))
        self._meter.add(verified_rows=len(ids), differing_rows=len(differing))
        if len(differing) and self._raises:
            raise VerifyError(
                f"{self._source.name}: {len(differing)} of {len(ids)} rows differ from the stock pull; "
                f"first ids: {ids[differing[:8]].tolist()}"
            )
