"""Everything that a run imports, for processes that start with it."""

import sys

import torch

import ssl4eo_bench.executors.local
import ssl4eo_bench.job
import ssl4eo_bench.methods.finetune
import ssl4eo_bench.models.build
import ssl4eo_bench.models.cost
import ssl4eo_bench.progress_bars
import ssl4eo_bench.results.report.render
import tests.faults.stages

__all__ = ["ssl4eo_bench", "tests"]

torch.set_num_threads(1)
sys.modules["openvino"] = None  # type: ignore[assignment]  # compiling takes longer than all other work
