"""Lets the tests of feature servers share `serving.py`: pytest's importlib mode sets no path."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
