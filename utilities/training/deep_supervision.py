"""Deep supervision: the losses of the four output heads, and the training steps that minimise them."""

import warnings
from collections.abc import Sequence
from contextlib import nullcontext

import torch
from torch import nn

from utilities.base import distributed
from utilities.inference.precision import autocast


class DeepSupervision(nn.Module):
    """The network and its losses as one module, so that each GPU computes the losses of its own samples.

    Only four numbers are gathered from each GPU, not four volumes for each sample.

    Args:
        network: network that returns the probabilities of the four heads, each (n, 1, z, Y, X).
        loss: loss of a prediction (n, 1, z, Y, X) and a target (n, z, Y, X), the mean over the samples.
        precision: number format of the network. The losses are always computed in float32: sums over a volume need it,
            and autocast does not support binary cross-entropy.
    """

    def __init__(self, network: nn.Module, loss: nn.Module, precision: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.network, self.loss, self.precision = network, loss, precision

    def forward(self, ct: torch.Tensor, label: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
        """Return the weighted losses of the four heads, float32 (1, 4).

        The weight of a sample is 1 / samples in the whole batch. So the results of all GPUs, ranks and micro batches
        add up to the mean over the samples, however unevenly the batch was split.

        Args:
            ct: normalised CT, (n, 1, z, y, x).
            label: label, (n, z, Y, X).
            weights: weight of each sample, (n, 1).
        """
        with autocast(ct.device, self.precision):
            heads = self.network(ct)
        label = label.float()
        losses = torch.stack([self.loss(head.float(), label) for head in heads])
        return losses[None] * weights.sum()


class Steps:
    """Make optimizer steps on one device, several GPUs of this process (DataParallel) or the ranks of torchrun.

    Under torchrun (DistributedDataParallel) all ranks start from the weights of rank 0.

    Args:
        supervised: the network with its losses.
        optimizer: optimizer of the weights of the network.
        scaler: gradient scaler, enabled for float16 only.
        devices: the devices of this process.
        compile: let torch.compile fuse the network and its losses.
    """

    def __init__(
        self,
        supervised: DeepSupervision,
        optimizer: torch.optim.Optimizer,
        scaler: torch.amp.GradScaler,
        devices: Sequence[torch.device],
        compile: bool = False,
    ) -> None:
        self.supervised, self.optimizer, self.scaler, self.device = supervised, optimizer, scaler, devices[0]
        if compile:
            supervised.compile()
        if distributed.world_size() > 1:
            # The strides of a 1 x 1 x 1 convolution's weights have no meaning, and PyTorch warns that they differ.
            warnings.filterwarnings('ignore', 'Grad strides do not match bucket view strides')
            self.supervised = nn.parallel.DistributedDataParallel(
                supervised, devices if self.device.type == 'cuda' else None, gradient_as_bucket_view=True
            )
        elif len(devices) > 1:
            self.supervised = nn.DataParallel(supervised, devices)

    def step(
        self, micro_batches: Sequence[tuple[torch.Tensor, ...]], alpha: float, learning_rate: float
    ) -> torch.Tensor:
        """Make one step on this process's micro batches of a batch, one after the other.

        Args:
            micro_batches: CT, label and weights of each, as DeepSupervision.forward takes them.
            alpha: weight of the losses of heads 1 to 3 in the total.
            learning_rate: learning rate of this step.

        Returns:
            What these samples contribute to the losses of the batch, (5,): the losses of the four heads, and the total,
            alpha * (loss1 + loss2 + loss3) + loss4.
        """
        for group in self.optimizer.param_groups:
            group['lr'] = learning_rate
        self.optimizer.zero_grad()
        sums = torch.zeros(5, device=self.device)
        for number, micro_batch in enumerate(micro_batches, 1):
            is_last = number == len(micro_batches)
            # The ranks exchange their gradients once a step, in the backward pass of the last micro batch.
            with nullcontext() if is_last or distributed.world_size() == 1 else self.supervised.no_sync():
                tensors = [tensor.to(self.device, non_blocking=True) for tensor in micro_batch]
                losses = self.supervised(*tensors).sum(0)
                total = alpha * losses[:3].sum() + losses[3]
                # DistributedDataParallel takes the mean of the ranks' gradients; their sum is wanted.
                self.scaler.scale(total * distributed.world_size()).backward()
            sums += torch.cat((losses, total[None])).detach()
        self.scaler.step(self.optimizer)
        self.scaler.update()
        return sums
