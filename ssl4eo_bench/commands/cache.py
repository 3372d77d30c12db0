"""Cached features."""

import argparse
import json

from ssl4eo_bench.console import table
from ssl4eo_bench.features.store import FeatureCache
from ssl4eo_bench.files.places import cache_root

Arguments = argparse.Namespace


def list_(arguments: Arguments) -> int:
    """List cached features."""
    rows = [
        {
            "checkpoint": entry.key.checkpoint,
            "task": entry.key.task,
            "split": entry.key.split,
            "images": f"{entry.rows}/{entry.key.rows}",
            "MB": round(sum(file.stat().st_size for file in entry.store.folder.iterdir()) / 1e6, 1),
            "entry": entry.store.folder.name[:12],
        }
        for entry in FeatureCache(cache_root(arguments.cache_dir)).entries()
    ]
    if arguments.json:
        print(json.dumps(rows, indent=1))
    elif rows:
        table("", list(rows[0]), [list(row.values()) for row in rows], right=["images", "MB"])
    return 0


def verify(arguments: Arguments) -> int:
    """Check cached features."""
    entries = FeatureCache(cache_root(arguments.cache_dir)).entries()
    damaged = [file for entry in entries for file in entry.damaged()]
    for file in damaged:
        print(f"damaged: {file}")
    print(
        f"{len(entries)} entries, {len(damaged)} damaged shards; damaged ones are computed again when they are needed"
    )
    return 1 if damaged else 0


def prune(arguments: Arguments) -> int:
    """Delete cached features, and with `--all` probes that were fitted on them."""
    cache_dir = cache_root(arguments.cache_dir)
    freed = FeatureCache(cache_dir).prune(checkpoint=arguments.checkpoint, everything=arguments.all)
    if arguments.all:
        from ssl4eo_bench.methods.probe_cache import clear  # brings torch

        freed += clear(cache_dir)
    print(f"freed {freed / 1e6:.1f} MB")
    return 0
