"""A 3D residual U-Net with deep supervision: 9,498,260 parameters."""

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.checkpoint import checkpoint

SLAB = 8  # slices that the last stage computes at a time on a CPU in eval mode (even)


class ResUNet(nn.Module):
    """CT (n, 1, z, y, x) -> liver probability (n, 1, z, y / down_scale, x / down_scale), float32; z, y and x are multiples of 8.

    In training mode the forward returns the four heads, coarsest first; in eval mode the last alone, and the others
    are not computed. `training` sets the mode it starts in. `checkpointing` keeps no activation within a block for the backward
    pass and computes them a second time there: less memory, more time, the same gradients (Chen et al. 2016).
    """

    def __init__(self, training, drop_rate=0.3, down_scale=0.5, checkpointing=False):
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
        self.down_conv1 = down(16, 32)
        self.down_conv2 = down(32, 64)
        self.down_conv3 = down(64, 128)
        self.down_conv4 = Block(conv(128, 256))
        self.up_conv2 = up(256, 128)
        self.up_conv3 = up(128, 64)
        self.up_conv4 = up(64, 32)
        self.map4 = head(32, 1, down_scale)
        self.map3 = head(64, 2, down_scale)
        self.map2 = head(128, 4, down_scale)
        self.map1 = head(256, 8, down_scale)
        self.apply(initialise)
        for module in self.children():
            module.checkpointing = checkpointing
        # activations take the layout of the weights; a CPU's convolutions copy any other into this one and back
        self.to(memory_format=torch.channels_last_3d)
        self.train(training)

    def forward(self, ct):
        skip1 = self.encoder_stage1(ct).add_(ct)
        x = self.down_conv1(skip1)
        skip2 = self.drop(self.encoder_stage2(x).add_(x))
        x = self.down_conv2(skip2)
        skip3 = self.drop(self.encoder_stage3(x).add_(x))
        x = self.down_conv3(skip3)
        deepest = self.drop(self.encoder_stage4(x).add_(x))

        x1 = self.drop(self.decoder_stage1(deepest).add_(self.down_conv4(deepest)))
        x = self.up_conv2(x1)
        x2 = self.drop(self.decoder_stage2(x, skip3).add_(x))
        x = self.up_conv3(x2)
        x3 = self.drop(self.decoder_stage3(x, skip2).add_(x))
        if not self.training and x3.device.type == 'cpu':
            del x, skip2
            return self.last_stage_in_slabs(x3, skip1)
        x = self.up_conv4(x3)
        x4 = self.decoder_stage4(x, skip1).add_(x)
        return (self.map1(x1), self.map2(x2), self.map3(x3), self.map4(x4)) if self.training else self.map4(x4)

    def last_stage_in_slabs(self, x3, skip1):
        """Head 4 from up_conv4, decoder_stage4 and map4, SLAB slices at a time: their channels at full size need most of the memory.

        For the slices [start, stop) the second convolution needs the first one's [start - 1, stop + 1), of which the slab before
        left two; these need the joined input's up to stop + 2. So no slice is convolved twice.
        """
        first, first_prelu, second, second_prelu = self.decoder_stage4
        depth = skip1.shape[2]
        heads, left = [], None
        for start in range(0, depth, SLAB):
            stop = min(start + SLAB, depth)
            ends = start == 0, stop == depth
            x = self.up_conv4(x3[:, :, start // 2 : stop // 2 + 1])
            hidden = first_prelu(conv_in_slab(first, torch.cat((x, skip1[:, :, start : stop + 2]), 1), *ends))
            hidden = hidden if left is None else torch.cat((left, hidden), 2)
            left = hidden[:, :, -2:].clone()
            x4 = second_prelu(conv_in_slab(second, hidden, *ends)).add_(x[:, :, : stop - start])
            heads.append(self.map4(x4))
        return torch.cat(heads, 2)

    def drop(self, x):
        return F.dropout(x, self.drop_rate, self.training, inplace=True)


class Block(nn.Sequential):
    """Convolutions, each followed by a PReLU with one slope per channel. Several inputs are joined along their channels."""

    checkpointing = False

    def __init__(self, *layers):
        super().__init__(*(part for layer in layers for part in (layer, PReLU(layer.out_channels))))

    def forward(self, *inputs):
        if self.checkpointing and torch.is_grad_enabled():
            return checkpoint(
                self.compute, *inputs, use_reentrant=False, preserve_rng_state=False
            )  # no dropout in here
        return self.compute(*inputs)

    def compute(self, *inputs):
        return super().forward(torch.cat(inputs, 1) if len(inputs) > 1 else inputs[0])


def conv(inputs, outputs, dilation=1):
    return nn.Conv3d(inputs, outputs, 3, padding=dilation, dilation=dilation)


def conv_in_slab(layer, x, first, last):
    """A 3 x 3 x 3 convolution of all slices that have both neighbours in x; zeros lie beyond the first and last slab."""
    if first or last:
        x = F.pad(x, (0, 0, 0, 0, int(first), int(last)))
    return F.conv3d(x, layer.weight, layer.bias, padding=(0, 1, 1))


def down(inputs, outputs):
    return Block(nn.Conv3d(inputs, outputs, 2, 2))


def up(inputs, outputs):
    return Block(nn.ConvTranspose3d(inputs, outputs, 2, 2))


def head(inputs, factor, down_scale):
    """One channel, brought from a `factor`-th of the network's grid to the full in-plane size, as a probability."""
    in_plane = factor * round(1 / down_scale)
    return nn.Sequential(nn.Conv3d(inputs, 1, 1), Probability((factor, in_plane, in_plane)))


class Probability(nn.Module):
    """Logits (n, 1, z, y, x) -> probabilities on a grid finer by `factors` (z, y, x), trilinear between voxel centres.

    In float32 under any autocast: a bfloat16 sigmoid is exactly 1 from a logit of 6.3 on, where no loss has a gradient.
    """

    def __init__(self, factors):
        super().__init__()
        self.factors = factors

    def forward(self, logits):
        z_factor, *in_plane = self.factors
        logits = F.interpolate(logits.float(), scale_factor=(z_factor, 1, 1), mode='trilinear', align_corners=False)
        # in plane apart from z: a CPU shares channels among its cores, and here every slice is one
        return F.interpolate(logits[:, 0], scale_factor=in_plane, mode='bilinear', align_corners=False)[
            :, None
        ].sigmoid_()


class PReLU(nn.PReLU):
    """nn.PReLU; on a CPU its gradient is quicker, and where none is wanted the input is overwritten: memory is not touched anew."""

    def forward(self, x):
        if x.device.type != 'cpu':
            return super().forward(x)
        if torch.is_grad_enabled() and (x.requires_grad or self.weight.requires_grad):
            return CPUPReLU.apply(x, self.weight)
        for part in x.split(1, 2):  # one slice, which stays in the cache
            part.copy_(F.prelu(part, self.weight))
        return x


class CPUPReLU(torch.autograd.Function):
    """F.prelu with a gradient of vectorised steps; PyTorch's own goes voxel by voxel and takes five times as long."""

    @staticmethod
    def forward(ctx, x, weight):
        ctx.save_for_backward(x, weight)
        return F.prelu(x, weight)

    @staticmethod
    def backward(ctx, gradient):
        x, weight = ctx.saved_tensors
        slope = weight.to(x.dtype).view(-1, 1, 1, 1)
        above = torch.ops.aten.threshold_backward(gradient, x, 0)  # the gradient where x > 0, else 0
        below = gradient - above
        return above.addcmul_(below, slope), below.mul_(x).sum((0, 2, 3, 4), dtype=weight.dtype)


def initialise(module):
    """Kaiming normal for the PReLU's starting slope (He et al. 2015), biases 0."""
    if isinstance(module, (nn.Conv3d, nn.ConvTranspose3d)):
        nn.init.kaiming_normal_(module.weight, a=0.25)
        nn.init.zeros_(module.bias)
