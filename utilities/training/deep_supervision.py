"""The network and its losses as one module, so that each GPU computes the losses of its own samples, and its steps.

Only four numbers a GPU are gathered, not four volumes a sample.
"""

import warnings
from contextlib import nullcontext

import torch
from torch import nn

from utilities.base import distributed
from utilities.inference.precision import autocast


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


class Steps:
    """Steps of an optimizer over the losses of a DeepSupervision: on one device, over several GPUs of this process (DataParallel), or over
    the ranks of torchrun (DistributedDataParallel, which starts from the first rank's weights).
    """

    def __init__(self, supervised, optimizer, scaler, devices, compile=False):
        self.supervised, self.optimizer, self.scaler, self.device = supervised, optimizer, scaler, devices[0]
        if compile:
            supervised.compile()
        if distributed.world_size() > 1:
            # of a 1 x 1 x 1 convolution's weights the strides have no meaning, and differ
            warnings.filterwarnings('ignore', 'Grad strides do not match bucket view strides')
            self.supervised = nn.parallel.DistributedDataParallel(
                supervised, devices if self.device.type == 'cuda' else None, gradient_as_bucket_view=True
            )
        elif len(devices) > 1:
            self.supervised = nn.DataParallel(supervised, devices)

    def step(self, parts, alpha, rate):
        """One step over this process's parts of a batch, (ct, label, share) each, one after the other; `rate`: the learning rate.

        Returns what they add to the losses, (5,): the four heads' and alpha (loss1 + loss2 + loss3) + loss4.
        """
        for group in self.optimizer.param_groups:
            group['lr'] = rate
        self.optimizer.zero_grad()
        added = torch.zeros(5, device=self.device)
        for number, part in enumerate(parts, 1):
            # the ranks' gradients meet once a step
            with nullcontext() if number == len(parts) or distributed.world_size() == 1 else self.supervised.no_sync():
                losses = self.supervised(*(tensor.to(self.device, non_blocking=True) for tensor in part)).sum(0)
                total = alpha * losses[:3].sum() + losses[3]
                self.scaler.scale(
                    total * distributed.world_size()
                ).backward()  # DistributedDataParallel takes the mean of gradients, not the sum
            added += torch.cat((losses, total[None])).detach()
        self.scaler.step(self.optimizer)
        self.scaler.update()
        return added
