"""`python -m rudder.cli`: the command without its script."""

from rudder.cli import main

main()
