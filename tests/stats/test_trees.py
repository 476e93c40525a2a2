import torch

from latentood.stats.trees import Forest


def forest() -> Forest:
    """Two trees: one splits dimension 1 at 0.5, then its right side dimension 0 at −1; one is a
    single leaf, padded."""
    return Forest(
        feature=torch.tensor([[1, 0, 0, 0, 0], [0, 0, 0, 0, 0]]),
        threshold=torch.tensor([[0.5, 0.0, -1.0, 0.0, 0.0], [0.0] * 5], dtype=torch.float64),
        left=torch.tensor([[1, 1, 3, 3, 4], [0, 0, 0, 0, 0]]),
        right=torch.tensor([[2, 1, 4, 3, 4], [0, 0, 0, 0, 0]]),
        value=torch.tensor([[9.0, 1.0, 9.0, 2.0, 4.0], [10.0, 9, 9, 9, 9]], dtype=torch.float64),
        depth=2,
    )


def test_rows_arrive_at_the_leaf_their_values_lead_to():
    rows = torch.tensor([[0.0, 0.5], [-1.0, 0.6], [-0.9, 7.0]])  # on a threshold means left
    assert forest().mean_value(rows).tolist() == [5.5, 6.0, 7.0]


def test_a_threshold_is_not_rounded_to_the_precision_of_the_rows():
    trees = forest()
    above = torch.nextafter(torch.tensor(0.5), torch.tensor(1.0))  # in float32
    trees.threshold[0, 0] = 0.5 + 0.75 * (float(above) - 0.5)  # nearer to the upper one
    rows = torch.tensor([[0.0, 0.5], [0.0, float(above)]])
    assert trees.mean_value(rows).tolist() == [5.5, 7.0]
