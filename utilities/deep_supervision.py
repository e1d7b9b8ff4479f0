"""The network and its losses as one module, so that under DataParallel each GPU computes the losses of its own samples.

Only four numbers a GPU are gathered, not four volumes a sample.
"""
import torch
from torch import nn


class DeepSupervision(nn.Module):
    """forward(ct (n, 1, z, y, x), label (n, z, Y, X), share (n, 1)) -> losses of the four heads, (1, 4).

    `share` holds 1 / samples in the whole batch for each sample: it weights the row, so that the rows of all GPUs add
    up to the mean over the samples, however unevenly the batch was split.
    """

    def __init__(self, network, loss):
        super().__init__()
        self.network, self.loss = network, loss

    def forward(self, ct, label, share):
        losses = torch.stack([self.loss(head, label) for head in self.network(ct)])
        return losses[None] * share.sum()
