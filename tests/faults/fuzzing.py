"""Seeded mutations of a valid input, tried in a child process with limits on time and memory."""

import json
import os
import random
import resource
import signal
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TextIO

from ssl4eo_bench.errors import BenchError
from tests.faults.tally import Tally

MEMORY = 3 << 30
"""Bytes of address space that a parser may take in addition to what the process has mapped."""

SECONDS = 20
"""Of processor time that one input may take."""

Parse = Callable[[bytes], object]
"""Reads an input; a valid one, or one sentence, is right."""

WORDS = [b"\x00" * 8, b"\xff" * 8, b"\x80\x00\x00\x00", b"\x7f\xff\xff\xff\xff\xff\xff\xff", b"-1", b"1e999", b"NaN"]
TOKENS = [
    *'{}[]",:&*!|>%@#<\n\t',
    "null",
    "true",
    "&a",
    "*a",
    "<<: *a",
    "!!python/name:os.system ''",
    "\x00",
    "é",
    "9" * 400,
]


def mutated(valid: bytes, seed: int) -> bytes:
    """An input that differs from the valid one in a few places."""
    rng = random.Random(seed)
    content = bytearray(valid)
    for _ in range(rng.choice((1, 1, 2, 4, 16))):
        at = rng.randrange(len(content) + 1)
        end = min(len(content), at + rng.choice((1, 2, 8, 64, 512)))
        kind = rng.randrange(8)
        if kind <= 1 and content:  # weighted: most faults are in a few bits
            content[min(at, len(content) - 1)] ^= 1 << rng.randrange(8)
        elif kind == 2:
            del content[at:]
        elif kind == 3:
            del content[at:end]
        elif kind == 4:
            content[at:at] = content[at:end] * rng.choice((1, 2, 50))
        elif kind == 5:
            other = rng.randrange(len(content) + 1)
            content[at:end] = content[other : other + end - at]
        elif kind == 6:
            content[at : at + 8] = rng.choice(WORDS)
        else:
            content[at:at] = rng.choice(TOKENS).encode() * rng.choice((1, 1, 3, 2000))
    return bytes(content)


def fuzz(fault: str, parse: Parse, valid: Sequence[bytes], count: int) -> tuple[Tally, list[str]]:
    """Try mutations of valid inputs; returns what came of them, and what went wrong with which seed.

    Args:
        fault: the name of the tally.
        parse: the parser.
        valid: inputs that it takes.
        count: of mutations.
    """
    tally, wrong, started, seed = Tally(fault), [], time.monotonic(), 0
    while seed < count:
        reached, told = _in_child(parse, valid, range(seed, count))
        wrong += told
        tally.tracebacks += len(told)
        tally.tried += reached - seed
        seed = reached
    tally.survived = tally.tried - tally.tracebacks
    tally.seconds = time.monotonic() - started
    return tally, wrong


def _in_child(parse: Parse, valid: Sequence[bytes], seeds: range) -> tuple[int, list[str]]:
    """Try these seeds in a child; returns the first seed that is left, and what went wrong."""
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        try:
            os.close(reader)
            _limit()
            with os.fdopen(writer, "w", encoding="utf-8") as said:
                for seed in seeds:
                    _try(parse, mutated(valid[seed % len(valid)], seed), seed, said)
        finally:
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader, encoding="utf-8") as said:
        lines = [json.loads(line) for line in said if line.endswith("\n")]
    _, status = os.waitpid(child, 0)
    done = max((line["done"] for line in lines if "done" in line), default=seeds.start - 1) + 1
    wrong = [line["wrong"] for line in lines if "wrong" in line]
    if done == seeds.stop:
        return done, wrong
    return done + 1, [*wrong, f"seed {done}: the process ended with status {status}"]  # a hang, or killed


def _limit() -> None:
    mapped = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (mapped + MEMORY, resource.RLIM_INFINITY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.signal(signal.SIGALRM, signal.SIG_DFL)


def _try(parse: Parse, content: bytes, seed: int, said: TextIO) -> None:
    signal.alarm(SECONDS)
    try:
        parse(content)
    except BenchError as error:
        if "\n" in str(error) or not str(error).endswith((".", "?")):
            _say(said, wrong=f"seed {seed}: no sentence: {str(error)[:300]!r}")
    except BaseException as error:
        frames = traceback.extract_tb(error.__traceback__)[-6:]
        where = " < ".join(f"{Path(frame.filename).name}:{frame.lineno}" for frame in reversed(frames))
        _say(said, wrong=f"seed {seed}: {type(error).__name__}: {str(error)[:200]} ({where})")
    signal.alarm(0)
    _say(said, done=seed)


def _say(said: TextIO, **line: object) -> None:
    said.write(json.dumps(line) + "\n")
    said.flush()
