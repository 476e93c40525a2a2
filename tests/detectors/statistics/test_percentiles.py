import numpy as np
import pytest
import torch

from latentood.detectors.statistics.percentiles import Percentiles
from latentood.errors import DataError
from latentood.latents import Latents

KEY = "features/penultimate"


def latents(values: torch.Tensor) -> Latents:
    return Latents(features={"penultimate": values}, name="val")


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64], ids=str)
def test_streamed_percentiles_are_those_of_numpy(dtype):
    values = torch.randn(9001, 6, dtype=torch.float64).relu().to(dtype)  # three blocks
    percents = (0.0, 60.0, 90.0, 99.9, 100.0)
    rows = latents(values)
    together = np.percentile(values.double().numpy(), percents)
    streamed = rows.compute(Percentiles(KEY, percents))
    np.testing.assert_allclose(streamed[:, 0].numpy(), together, rtol=1e-12, atol=0)
    apart = np.percentile(values.double().numpy(), percents, axis=0)
    streamed = rows.compute(Percentiles(KEY, percents, per_unit=True))
    np.testing.assert_allclose(streamed.numpy(), apart, rtol=1e-12, atol=0)


def test_one_value_is_all_percentiles():
    values = latents(torch.tensor([[3.5]])).compute(Percentiles(KEY, (0.0, 37.0, 100.0)))
    assert values.flatten().tolist() == [3.5] * 3


def test_rows_go_by_as_often_as_stated():
    class Counting(Latents):
        reads = 0

        def read(self, key, start, stop):
            self.reads += stop - start
            return super().read(key, start, stop)

    for dtype, per_unit, reads in ((torch.float32, False, 2), (torch.float64, True, 8)):
        plain = latents(torch.randn(5000, 3).to(dtype))
        rows = Counting.from_rows(plain._rows)
        rows.compute(Percentiles(KEY, (60.0, 95.0), per_unit))
        assert rows.reads == reads * 5000 + 1  # one row more to learn its type


def test_a_value_that_is_not_finite_is_named():
    values = torch.randn(50, 3)
    values[7, 1] = torch.nan
    with pytest.raises(DataError, match=r"^val: features/penultimate must be finite, .* row 7; "):
        latents(values).compute(Percentiles(KEY, (90.0,)))
