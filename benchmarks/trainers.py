"""Training steps, plain and ours, with the same weights on the same samples."""

from collections.abc import Callable

import torch

from benchmarks import plain
from loss import LOSSES
from net.ResUNet import ResUNet
from utilities.inference.precision import choose_precision
from utilities.training.deep_supervision import DeepSupervision

ALPHA = 0.33
LEARNING_RATE = 1e-4


def make_batch(batch_size: int, depth: int, width: int, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """Return samples of a box of liver in noise, as the Dataset returns them.

    Returns:
        CT (batch_size, 1, depth, width, width) and labels (batch_size, depth, 2 width, 2 width).
    """
    label = torch.zeros(batch_size, depth, 2 * width, 2 * width, dtype=torch.uint8, device=device)
    label[:, depth // 4 : -depth // 4, width // 2 : -width // 2, width // 2 : -width // 2] = 1
    noise = torch.randn(batch_size, 1, depth, width, width, device=device)
    return label[:, None, :, ::2, ::2] * 0.3 + 0.1 * noise, label


def make_our_trainer(
    ct: torch.Tensor, label: torch.Tensor
) -> tuple[ResUNet, torch.optim.Optimizer, Callable[[], torch.Tensor]]:
    """Return a network, its optimizer, and a function that makes one training step and returns the four losses."""
    network = ResUNet(training=True, drop_rate=0).to(ct.device)
    supervision = DeepSupervision(network, LOSSES['Tversky'](), choose_precision(ct.device, 'auto'))
    optimizer = torch.optim.Adam(network.parameters(), lr=LEARNING_RATE)
    sample_weights = torch.full((len(ct), 1), 1 / len(ct), device=ct.device)

    def step() -> torch.Tensor:
        losses = supervision(ct, label, sample_weights).sum(0)
        optimizer.zero_grad()
        (ALPHA * losses[:3].sum() + losses[3]).backward()
        optimizer.step()
        return losses.detach()

    return network, optimizer, step


def make_trainers(
    batch_size: int, depth: int, width: int, device: torch.device
) -> tuple[Callable[[], float], Callable[[], torch.Tensor]]:
    """Return two functions, plain and ours, that make one training step and return the loss of the last head."""
    torch.manual_seed(0)
    ct, label = make_batch(batch_size, depth, width, device)
    network, _, our_step = make_our_trainer(ct, label)
    plain_network = plain.Network(drop_rate=0).to(device)
    plain_network.load_state_dict(network.state_dict())
    optimizer = torch.optim.Adam(plain_network.parameters(), lr=LEARNING_RATE)

    def plain_step() -> float:
        losses = [plain.tversky(head, label.float()) for head in plain_network(ct)]
        optimizer.zero_grad()
        (ALPHA * sum(losses[:3]) + losses[3]).backward()
        optimizer.step()
        return losses[3].item()

    return plain_step, lambda: our_step()[3]
