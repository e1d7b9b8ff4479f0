"""A 3D residual U-Net with deep supervision: 9,498,260 parameters.

An encoder of four stages, each on half the grid of the one before, is followed by a decoder that returns to the input's
grid over skip connections (Ronneberger et al. 2015). Every stage has a residual connection (He et al. 2016), and every
decoder stage has a head that predicts the liver, for deep supervision (Lee et al. 2015).
"""

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.checkpoint import checkpoint

from net import cpu


class ResUNet(nn.Module):
    """Map a normalised CT to the probability of liver.

    Input: float (n, 1, z, y, x), where z, y and x are multiples of 8. Output: float32 (n, 1, z, y / down_scale,
    x / down_scale) in (0, 1). In training mode the forward pass returns the four heads, coarsest first; in eval mode it
    returns the last head and does not compute the others.

    Args:
        training: start in training mode, else in eval mode.
        drop_rate: dropout after every stage but the first and the last, in training mode.
        down_scale: in-plane scale of the input, 1 / integer. The output has the full in-plane size.
        checkpointing: do not store the activations inside a block, and compute them again in the backward pass (Chen et
            al. 2016): the same gradients with less memory and more time.
    """

    def __init__(
        self, training: bool, drop_rate: float = 0.3, down_scale: float = 0.5, checkpointing: bool = False
    ) -> None:
        super().__init__()
        self.drop_rate = drop_rate
        self.encoder_stage1 = Block(conv(1, 16), conv(16, 16))
        self.encoder_stage2 = Block(conv(32, 32), conv(32, 32), conv(32, 32))
        self.encoder_stage3 = Block(conv(64, 64), conv(64, 64, 2), conv(64, 64, 4))
        self.encoder_stage4 = Block(conv(128, 128, 3), conv(128, 128, 4), conv(128, 128, 5))
        self.decoder_stage1 = Block(conv(128, 256), conv(256, 256), conv(256, 256))
        self.decoder_stage2 = Block(conv(128 + 64, 128), conv(128, 128), conv(128, 128))
        self.decoder_stage3 = Block(conv(64 + 32, 64), conv(64, 64), conv(64, 64))
        self.decoder_stage4 = Block(conv(32 + 16, 32), conv(32, 32))
        self.down_conv1 = down_conv(16, 32)
        self.down_conv2 = down_conv(32, 64)
        self.down_conv3 = down_conv(64, 128)
        self.down_conv4 = Block(conv(128, 256))  # keeps the grid: the residual of decoder_stage1
        self.up_conv2 = up_conv(256, 128)
        self.up_conv3 = up_conv(128, 64)
        self.up_conv4 = up_conv(64, 32)
        self.map4 = head(32, 1, down_scale)
        self.map3 = head(64, 2, down_scale)
        self.map2 = head(128, 4, down_scale)
        self.map1 = head(256, 8, down_scale)
        self.apply(initialise)
        for module in self.children():
            module.checkpointing = checkpointing
        # Activations get the memory format of the weights; from another one, convolutions would copy them to and fro.
        self.to(memory_format=torch.channels_last_3d)
        self.train(training)

    def forward(self, ct: torch.Tensor) -> torch.Tensor | tuple[torch.Tensor, ...]:
        skip1 = self.encoder_stage1(ct).add_(ct)
        x = self.down_conv1(skip1)
        skip2 = self.dropout(self.encoder_stage2(x).add_(x))
        x = self.down_conv2(skip2)
        skip3 = self.dropout(self.encoder_stage3(x).add_(x))
        x = self.down_conv3(skip3)
        deepest = self.dropout(self.encoder_stage4(x).add_(x))

        x1 = self.dropout(self.decoder_stage1(deepest).add_(self.down_conv4(deepest)))
        x = self.up_conv2(x1)
        x2 = self.dropout(self.decoder_stage2(x, skip3).add_(x))
        x = self.up_conv3(x2)
        x3 = self.dropout(self.decoder_stage3(x, skip2).add_(x))
        if not self.training and x3.device.type == 'cpu':  # the last stage needs most of the memory
            del x, skip2
            return cpu.last_stage_in_slabs(x3, skip1, self.up_conv4, self.decoder_stage4, self.map4)
        x = self.up_conv4(x3)
        x4 = self.decoder_stage4(x, skip1).add_(x)
        return (self.map1(x1), self.map2(x2), self.map3(x3), self.map4(x4)) if self.training else self.map4(x4)

    def dropout(self, x: torch.Tensor) -> torch.Tensor:
        """Set elements of x to 0 in place, in training mode."""
        return F.dropout(x, self.drop_rate, self.training, inplace=True)


class Block(nn.Sequential):
    """Convolutions, each followed by a PReLU with one slope per channel.

    The forward pass takes one input or several of one grid, which are concatenated along their channels.
    """

    checkpointing = False

    def __init__(self, *convolutions: nn.Module) -> None:
        layers = []
        for convolution in convolutions:
            # This PReLU is nn.PReLU on a GPU; on a CPU it is faster and needs less memory.
            layers += [convolution, cpu.PReLU(convolution.out_channels)]
        super().__init__(*layers)

    def forward(self, *inputs: torch.Tensor) -> torch.Tensor:
        if self.checkpointing and torch.is_grad_enabled():
            # The state of the random numbers need not be stored: a block has no dropout.
            return checkpoint(self.compute, *inputs, use_reentrant=False, preserve_rng_state=False)
        return self.compute(*inputs)

    def compute(self, *inputs: torch.Tensor) -> torch.Tensor:
        """Concatenate the inputs and run the layers."""
        return super().forward(torch.cat(inputs, 1) if len(inputs) > 1 else inputs[0])


class Probability(nn.Module):
    """Upsample logits (n, 1, z, y, x) trilinearly by `factors` (z, y, x), and turn them into probabilities.

    The result is float32 under any autocast: a bfloat16 sigmoid is exactly 1 from a logit of 6.3 on, where no loss has
    a gradient.
    """

    def __init__(self, factors: tuple[int, int, int]) -> None:
        super().__init__()
        self.factors = factors

    def forward(self, logits: torch.Tensor) -> torch.Tensor:
        # The same as F.interpolate in one call, in an order that a CPU computes faster.
        return cpu.upsample_trilinear(logits.float(), self.factors).sigmoid_()


def conv(in_channels: int, out_channels: int, dilation: int = 1) -> nn.Module:
    """Return a 3 x 3 x 3 convolution that keeps the grid."""
    return nn.Conv3d(in_channels, out_channels, 3, padding=dilation, dilation=dilation)


def down_conv(in_channels: int, out_channels: int) -> Block:
    """Return a block that halves the grid."""
    return Block(nn.Conv3d(in_channels, out_channels, 2, 2))


def up_conv(in_channels: int, out_channels: int) -> Block:
    """Return a block that doubles the grid."""
    return Block(nn.ConvTranspose3d(in_channels, out_channels, 2, 2))


def head(in_channels: int, factor: int, down_scale: float) -> nn.Module:
    """Return a head that predicts the liver at the full in-plane size.

    factor: how many times coarser the grid of its input is than the network's.
    """
    in_plane = factor * round(1 / down_scale)
    return nn.Sequential(nn.Conv3d(in_channels, 1, 1), Probability((factor, in_plane, in_plane)))


def initialise(module: nn.Module) -> None:
    """Initialise a convolution: Kaiming normal weights for the initial slope of its PReLU (He et al. 2015), bias 0."""
    if isinstance(module, (nn.Conv3d, nn.ConvTranspose3d)):
        nn.init.kaiming_normal_(module.weight, a=0.25)
        nn.init.zeros_(module.bias)
