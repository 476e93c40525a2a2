import pytest
import torch
from threadpoolctl import threadpool_info

from latentood.stats.products import SelfProduct, add_self_products, self_product

CPU = torch.device("cpu")
DTYPES = [torch.float16, torch.bfloat16, torch.float32, torch.float64]


@pytest.fixture
def threads():
    """Set the number of threads for one test."""
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("width", [1, 3, 300, 1100])  # 1 tile, 3 narrow ones, 3 uneven ones, 10
def test_rows_about_an_origin_are_multiplied_in_float64_over_all_tiles(dtype, width):
    rows = (100 + torch.randn(700, width)).to(dtype)  # more than one part
    origin = rows.double().mean(dim=0)
    centred = rows.double() - origin
    product = SelfProduct(width, CPU)
    product.add(rows, origin)
    torch.testing.assert_close(product.total(), centred.T @ centred, rtol=1e-12, atol=1e-10)
    assert torch.equal(product.total(), product.total().T)


def test_rows_of_any_number_are_added_up():
    rows = torch.randn(9_000, 4, dtype=torch.float64)  # three blocks of the one buffer
    product = SelfProduct(4, CPU)
    for part in rows.split([1, 8_500, 499]):
        product.add(part)
    torch.testing.assert_close(product.total(), rows.T @ rows, rtol=1e-12, atol=1e-10)
    assert torch.equal(product.total(), product.total()), "asking changes nothing"


@pytest.mark.parametrize("dtype", DTYPES)
def test_rows_are_measured_from_their_own_mean(dtype):
    rows = (100 + torch.randn(1_300, 5)).to(dtype)
    product = SelfProduct(5, CPU)
    mean = product.add_about_mean(rows.split([800, 1, 499]))
    torch.testing.assert_close(mean, rows.double().mean(dim=0), rtol=1e-14, atol=0)
    centred = rows.double() - rows.double().mean(dim=0)
    torch.testing.assert_close(product.total(), centred.T @ centred, rtol=1e-11, atol=1e-9)


def test_the_number_of_threads_changes_no_bit(threads):
    rows, products = torch.randn(5_000, 600), []
    for count in (1, 2, 5):
        threads(count)
        product = SelfProduct(600, CPU)
        mean = product.add_about_mean([rows])
        products.append(torch.cat([product.total(), mean.unsqueeze(0)]))
    assert torch.equal(products[0], products[1])
    assert torch.equal(products[0], products[2])


def test_groups_are_multiplied_each_into_its_own_sum():
    groups = [torch.randn(n, 3, dtype=torch.float64) for n in (4, 0, 9)]
    sums = torch.ones(3, 3, 3, dtype=torch.float64)
    add_self_products(sums, groups)
    expected = torch.stack([1 + rows.T @ rows for rows in groups])
    torch.testing.assert_close(sums, expected, rtol=1e-13, atol=1e-13)


def test_blas_has_its_threads_back_afterwards_also_after_an_error():
    def blas() -> list[int]:
        return [one["num_threads"] for one in threadpool_info() if one["user_api"] == "blas"]

    before = blas()
    self_product(torch.randn(50, 4))
    assert blas() == before
    with pytest.raises(ValueError, match="broadcast"):
        SelfProduct(4, CPU).add(torch.randn(50, 4), torch.zeros(3, dtype=torch.float64))
    assert blas() == before
    self_product(torch.randn(50, 4))  # the lock is free again
