"""The program: `ssl4eo-bench`, or `python -m ssl4eo_bench`."""

import gc
import sys
from typing import NoReturn

from ssl4eo_bench.cli import main

OBJECTS = 100_000
"""More than at first, after which the garbage collector looks for cycles: importing PyTorch makes it look in vain."""


def program() -> NoReturn:
    """Run the command line and leave."""
    gc.set_threshold(OBJECTS)
    code = main()
    gc.freeze()  # looking through everything once more takes half a second after PyTorch was imported
    sys.exit(code)


if __name__ == "__main__":
    program()
