"""A 3D residual U-Net with deep supervision: 9,498,260 parameters."""
import torch
import torch.nn.functional as F
from torch import nn


def block(*layers):
    """Convolutions, each followed by a PReLU with one slope per channel."""
    return nn.Sequential(*(part for layer in layers for part in (layer, nn.PReLU(layer.out_channels))))


def conv(inputs, outputs, dilation=1):
    return nn.Conv3d(inputs, outputs, 3, padding=dilation, dilation=dilation)


def down(inputs, outputs):
    return block(nn.Conv3d(inputs, outputs, 2, 2))


def up(inputs, outputs):
    return block(nn.ConvTranspose3d(inputs, outputs, 2, 2))


class ResUNet(nn.Module):
    """CT (n, 1, z, y, x) -> liver probability (n, 1, z, y / down_scale, x / down_scale); z, y and x are multiples of 8.

    In training mode the forward returns the four heads, coarsest first; in eval mode the last alone, and the others
    are not computed. `training` sets the mode it starts in.
    """

    def __init__(self, training, drop_rate=0.3, down_scale=0.5):
        super().__init__()
        self.drop_rate = drop_rate
        self.encoder_stage1 = block(conv(1, 16), conv(16, 16))
        self.encoder_stage2 = block(conv(32, 32), conv(32, 32), conv(32, 32))
        self.encoder_stage3 = block(conv(64, 64), conv(64, 64, 2), conv(64, 64, 4))
        self.encoder_stage4 = block(conv(128, 128, 3), conv(128, 128, 4), conv(128, 128, 5))
        self.decoder_stage1 = block(conv(128, 256), conv(256, 256), conv(256, 256))
        self.decoder_stage2 = block(conv(128 + 64, 128), conv(128, 128), conv(128, 128))
        self.decoder_stage3 = block(conv(64 + 32, 64), conv(64, 64), conv(64, 64))
        self.decoder_stage4 = block(conv(32 + 16, 32), conv(32, 32))
        self.down_conv1 = down(16, 32)
        self.down_conv2 = down(32, 64)
        self.down_conv3 = down(64, 128)
        self.down_conv4 = block(conv(128, 256))
        self.up_conv2 = up(256, 128)
        self.up_conv3 = up(128, 64)
        self.up_conv4 = up(64, 32)
        self.map4 = head(32, 1, down_scale)
        self.map3 = head(64, 2, down_scale)
        self.map2 = head(128, 4, down_scale)
        self.map1 = head(256, 8, down_scale)
        self.apply(initialise)
        self.train(training)

    def forward(self, ct):
        skip1 = self.encoder_stage1(ct) + ct
        x = self.down_conv1(skip1)
        skip2 = self.drop(self.encoder_stage2(x) + x)
        x = self.down_conv2(skip2)
        skip3 = self.drop(self.encoder_stage3(x) + x)
        x = self.down_conv3(skip3)
        deepest = self.drop(self.encoder_stage4(x) + x)

        x1 = self.drop(self.decoder_stage1(deepest) + self.down_conv4(deepest))
        x = self.up_conv2(x1)
        x2 = self.drop(self.decoder_stage2(torch.cat((x, skip3), 1)) + x)
        x = self.up_conv3(x2)
        x3 = self.drop(self.decoder_stage3(torch.cat((x, skip2), 1)) + x)
        x = self.up_conv4(x3)
        x4 = self.decoder_stage4(torch.cat((x, skip1), 1)) + x
        if not self.training:
            return self.map4(x4)
        return self.map1(x1), self.map2(x2), self.map3(x3), self.map4(x4)

    def drop(self, x):
        return F.dropout(x, self.drop_rate, self.training)


def head(inputs, factor, down_scale):
    """One channel, brought from a `factor`-th of the network's grid to the full in-plane size, as a probability."""
    in_plane = factor * round(1 / down_scale)
    return nn.Sequential(nn.Conv3d(inputs, 1, 1),
                         nn.Upsample(scale_factor=(factor, in_plane, in_plane), mode='trilinear', align_corners=False),
                         nn.Sigmoid())


def initialise(module):
    """Kaiming normal for the PReLU's starting slope (He et al. 2015), biases 0."""
    if isinstance(module, (nn.Conv3d, nn.ConvTranspose3d)):
        nn.init.kaiming_normal_(module.weight, a=0.25)
        nn.init.zeros_(module.bias)
