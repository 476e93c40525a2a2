"""LeNet-5 in its present-day form."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F


class LeNet(nn.Module):
    """Two convolutions and three linear layers (LeCun et al. 1998).

    Departures from the paper: ReLU for tanh, max pooling for trainable subsampling, a full
    second convolution, a linear head for RBF units, and dropout before the head so that the
    net has something stochastic.

    Args:
        num_classes: Outputs of the head (``fc3``).
        in_channels: Channels of an image.
        size: Height and width of an image: 28 and 32 give the paper's 5×5 and a 6×6 map.
        p: Drop probability before the head.
    """

    def __init__(
        self, num_classes: int = 10, in_channels: int = 1, size: int = 28, p: float = 0.5
    ) -> None:
        super().__init__()
        side = (size // 2 - 4) // 2
        self.conv1 = nn.Conv2d(in_channels, 6, 5, padding=2)
        self.conv2 = nn.Conv2d(6, 16, 5)
        self.fc1 = nn.Linear(16 * side * side, 120)
        self.fc2 = nn.Linear(120, 84)
        self.dropout = nn.Dropout(p)
        self.fc3 = nn.Linear(84, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Images (N, in_channels, size, size) → logits (N, num_classes)."""
        out = F.max_pool2d(F.relu(self.conv1(x)), 2)
        out = F.max_pool2d(F.relu(self.conv2(out)), 2)
        out = F.relu(self.fc1(out.flatten(1)))
        out = F.relu(self.fc2(out))
        logits: Tensor = self.fc3(self.dropout(out))
        return logits


def lenet(num_classes: int = 10, in_channels: int = 1, size: int = 28, p: float = 0.5) -> LeNet:
    """Build a :class:`LeNet`."""
    return LeNet(num_classes, in_channels, size, p)
