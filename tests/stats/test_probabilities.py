import math

import pytest
import torch

from latentood.stats.probabilities import entropy, log_complement, softmax, softmax_entropy


def test_a_certain_answer_has_no_entropy_even_at_probability_zero():
    assert entropy(torch.tensor([1.0, 0.0, 0.0], dtype=torch.float64)) == 0.0
    assert softmax_entropy(torch.tensor([2000.0, 0.0, -2000.0], dtype=torch.float64)) == 0.0


@pytest.mark.parametrize("classes", [1, 2, 10, 32, 33, 100])
def test_softmax_is_that_of_torch(classes):
    logits = torch.randn(5, 7, classes, dtype=torch.float64) * 300
    kept = logits.clone()
    truth = torch.softmax(logits, dim=-1)
    torch.testing.assert_close(softmax(logits), truth, rtol=1e-13, atol=1e-300)
    assert torch.equal(logits, kept)


def test_a_uniform_answer_has_the_most():
    assert math.isclose(entropy(torch.full((7,), 1 / 7, dtype=torch.float64)), math.log(7))
    assert math.isclose(softmax_entropy(torch.full((7,), 300.0, dtype=torch.float64)), math.log(7))


def test_both_agree_on_any_logits_and_any_leading_axes():
    logits = torch.randn(3, 4, 5, dtype=torch.float64) * 4
    torch.testing.assert_close(
        softmax_entropy(logits), entropy(logits.softmax(dim=-1)), rtol=1e-12, atol=1e-12
    )


def test_an_underflowing_probability_still_counts():
    logits = torch.tensor([0.0, -700.0], dtype=torch.float64)
    assert math.isclose(softmax_entropy(logits), 700 * math.exp(-700), rel_tol=1e-12)


def test_a_complement_is_exact_where_the_probability_rounds_to_one():
    logits = torch.tensor([[50.0, 0.0, 0.0], [0.3, 0.2, -1.0]], dtype=torch.float64)
    log_p = torch.log_softmax(logits, dim=1)
    complement = log_complement(log_p)
    assert math.isclose(float(complement[0, 0]), math.log(2) - 50, rel_tol=1e-14)
    torch.testing.assert_close(complement[1], (1 - log_p[1].exp()).log(), rtol=1e-14, atol=0)
    assert bool((complement <= 0).all())


def test_the_complement_of_the_only_class_is_nothing():
    assert float(log_complement(torch.zeros(1, 1))) == -math.inf
