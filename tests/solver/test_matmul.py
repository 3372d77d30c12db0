"""Thin products equal plain matrix products, for every way of computing them."""

from collections.abc import Iterator

import pytest
import torch

from ssl4eo_bench.solver import matmul
from ssl4eo_bench.solver.matmul import AT_ONCE, MANY, logits, sums


@pytest.fixture(params=[1, 2], ids=["one thread", "two threads"])
def threads(request: pytest.FixtureRequest) -> Iterator[int]:
    usual = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(usual)


@pytest.mark.usefixtures("threads")
@pytest.mark.parametrize("count", [1, MANY, AT_ONCE + 3])
@pytest.mark.parametrize("classes", [1, 2, 4, 10, 16, 19])
def test_products_are_those_of_matrices(classes: int, count: int) -> None:
    generator = torch.Generator().manual_seed(classes)
    blocks = torch.randn(count, 64, 33, generator=generator)
    weights, residuals = (torch.randn(*shape, generator=generator) for shape in ((classes, 34), (count, classes, 64)))
    exact = blocks.double()
    expected = torch.einsum("cd,brd->bcr", weights[:, :-1].double(), exact) + weights[:, -1:].double()
    found = logits(weights, blocks)
    assert found.is_contiguous()
    torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=1e-5)
    expected = torch.einsum("bcr,brd->cd", residuals.double(), exact)
    torch.testing.assert_close(sums(residuals, blocks).double(), expected, rtol=1e-5, atol=1e-4)


def test_few_blocks_of_one_thread_are_no_convolutions(threads: int) -> None:
    few, many = torch.zeros(MANY - 1, 2, 3), torch.zeros(MANY, 2, 3)
    available: bool = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    assert matmul._convolve(few) == (available and threads > 1)
    assert matmul._convolve(many) == available
