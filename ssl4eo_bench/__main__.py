"""The program: `ssl4eo-bench`, or `python -m ssl4eo_bench`."""

import gc
import os
import signal
import sys
from typing import NoReturn

from ssl4eo_bench.cli import Terminated, main

OBJECTS = 100_000
"""More than at first, after which the garbage collector looks for cycles: importing PyTorch makes it look in vain."""


def program() -> NoReturn:
    """Run the command line and leave; SIGTERM ends it like SIGINT."""
    signal.signal(signal.SIGTERM, _terminate)
    gc.set_threshold(OBJECTS)
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")  # looking for some reads metadata of all packages
    code = main()
    gc.freeze()  # looking through everything once more takes half a second after PyTorch was imported
    sys.exit(code)


def _terminate(number: int, frame: object) -> NoReturn:
    del frame
    signal.signal(number, signal.SIG_IGN)  # job schedulers send several: not to interrupt the cleaning up
    raise Terminated


if __name__ == "__main__":
    program()
