import pytest
import torch
import torch.nn.functional as F

from latentood.errors import ConfigError, ModelError
from latentood.extraction.model.grid import CellFeatures, Grid


def test_finer_maps_become_means_of_areas_and_coarser_ones_are_interpolated():
    grid = Grid(3, 4)
    fine, coarse, same = torch.randn(2, 5, 6, 8), torch.randn(2, 5, 2, 2), torch.randn(2, 5, 3, 4)
    means = fine.reshape(2, 5, 3, 2, 4, 2).mean(dim=(3, 5))
    torch.testing.assert_close(grid.bring(fine), means.flatten(2).transpose(1, 2))
    enlarged = F.interpolate(coarse, (3, 4), mode="bilinear", align_corners=False)
    torch.testing.assert_close(grid.bring(coarse), enlarged.flatten(2).transpose(1, 2))
    assert grid.bring(same)[1, 5].equal(same[1, :, 1, 1])


@pytest.mark.parametrize("size", [(6, 8), (2, 2), (3, 4)])
def test_what_a_1x1_convolution_makes_of_cells_is_the_cell_of_what_it_makes_of_a_map(size):
    maps, head, grid = torch.randn(2, 5, *size), torch.nn.Conv2d(5, 3, 1), Grid(3, 4)
    of_cells = grid.bring(maps) @ head.weight.flatten(1).T + head.bias
    torch.testing.assert_close(of_cells, grid.bring(head(maps)))


def test_a_stride_that_does_not_divide_an_image_is_an_error_that_says_what_to_do():
    assert Grid.over((3, 24, 32), 8) == Grid(3, 4)
    with pytest.raises(ConfigError, match=r"must divide .* got 8 for \(3, 20, 32\); "):
        Grid.over((3, 20, 32), 8)


@pytest.mark.parametrize("row", [(7, 16), (16,)])
def test_a_layer_without_positions_has_no_cells(row):
    assert CellFeatures(rows=3, columns=4).shape((16, 6, 8)) == (12, 16)
    with pytest.raises(ModelError, match="unit cell: layers must give maps"):
        CellFeatures(rows=3, columns=4).shape(row)
