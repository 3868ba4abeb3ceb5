"""`python -m rudder.serve SETTINGS`: a feature server as `rudder launch` starts it; SETTINGS are JSON."""

from __future__ import annotations

import json
import logging
import sys

from rudder.errors import RudderError
from rudder.serve.process import ServeSettings, serve


def main() -> None:
    """Entry point."""
    logging.basicConfig(level=logging.WARNING, format="rudder: %(message)s")
    try:
        serve(ServeSettings(**json.loads(sys.argv[1])))
    except RudderError as error:
        sys.exit(f"rudder: no feature server here: {error}")


if __name__ == "__main__":
    main()
