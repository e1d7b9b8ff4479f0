"""The network and its losses as one module, so that under DataParallel each GPU computes the losses of its own samples.

Only four numbers a GPU are gathered, not four volumes a sample.
"""
import torch
from torch import nn

from utilities.precision import autocast


class DeepSupervision(nn.Module):
    """forward(ct (n, 1, z, y, x), label (n, z, Y, X), share (n, 1)) -> losses of the four heads, (1, 4), float32.

    `share` holds 1 / samples in the whole batch for each sample: it weights the row, so that the rows of all GPUs add
    up to the mean over the samples, however unevenly the batch was split. `precision` is the network's alone: sums over a
    volume need float32, and autocast forbids binary cross-entropy.
    """

    def __init__(self, network, loss, precision=torch.float32):
        super().__init__()
        self.network, self.loss, self.precision = network, loss, precision

    def forward(self, ct, label, share):
        with autocast(ct.device, self.precision):
            heads = self.network(ct)
        label = label.float()  # once, not once a head
        losses = torch.stack([self.loss(head.float(), label) for head in heads])
        return losses[None] * share.sum()
