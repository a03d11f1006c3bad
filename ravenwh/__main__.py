"""``python -m ravenwh`` is the command ``ravenwh``."""

from ravenwh.cli import main

main()
