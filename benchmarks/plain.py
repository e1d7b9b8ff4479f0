"""The plain way to do what the pipeline does: the libraries that come to mind first, whole volumes at a time."""

import numpy as np
import SimpleITK as sitk
import torch
import torch.nn.functional as F
from scipy import ndimage
from scipy.spatial import KDTree
from skimage.measure import label as components
from skimage.measure import regionprops
from skimage.morphology import remove_small_holes
from torch import nn


def training_case(ct_file, label_file, ct_out, label_out, size, expand_slice, slice_thickness, lower, upper):
    """A case to the training grid, half size in plane, through whole-volume splines and compressed labels."""
    ct_image = sitk.ReadImage(str(ct_file), sitk.sitkInt16)
    ct = np.clip(sitk.GetArrayFromImage(ct_image), lower, upper)
    label = (sitk.GetArrayFromImage(sitk.ReadImage(str(label_file), sitk.sitkUInt8)) > 0).astype(np.uint8)
    factor = ct_image.GetSpacing()[2] / slice_thickness
    ct = ndimage.zoom(ct, (factor, 0.5, 0.5), order=3)
    label = ndimage.zoom(label, (factor, 1, 1), order=0)
    held = np.flatnonzero(label.any((1, 2)))
    kept = slice(max(0, held[0] - expand_slice), held[-1] + 1 + expand_slice)
    sitk.WriteImage(sitk.GetImageFromArray(ct[kept]), str(ct_out))
    sitk.WriteImage(sitk.GetImageFromArray(label[kept]), str(label_out))


def sample(ct_file, label_file, first, size):
    """Both files whole, then the sample's slices."""
    ct = sitk.GetArrayFromImage(sitk.ReadImage(str(ct_file), sitk.sitkInt16)).astype(np.float32) / 200
    label = sitk.GetArrayFromImage(sitk.ReadImage(str(label_file), sitk.sitkUInt8))
    return torch.from_numpy(ct[first : first + size])[None], torch.from_numpy(label[first : first + size])


def keep_liver(mask, maximum_hole):
    labelled = components(mask, connectivity=1)
    largest = max(regionprops(labelled), key=lambda region: region.area)
    liver = labelled == largest.label
    return remove_small_holes(liver, max_size=maximum_hole - 1, connectivity=2).astype(
        np.uint8
    )  # max_size itself is filled


def metrics(real, predicted, spacing):
    """Overlap from sums over the volume, surface distances from KD-trees."""
    real, predicted = real != 0, predicted != 0
    both, either = (real & predicted).sum(), (real | predicted).sum()
    ball = ndimage.generate_binary_structure(3, 2)
    points = [np.argwhere(mask & ~ndimage.binary_erosion(mask, ball)) * spacing[::-1] for mask in (real, predicted)]
    there, back = KDTree(points[1]).query(points[0])[0], KDTree(points[0]).query(points[1])[0]
    distances = np.concatenate([there, back])
    return {
        'dice': 2 * both / (real.sum() + predicted.sum()),
        'jaccard': both / either,
        'voe': 1 - both / either,
        'fnr': (real & ~predicted).sum() / either,
        'fpr': (predicted & ~real).sum() / either,
        'rvd': (predicted.sum() - real.sum()) / real.sum(),
        'assd': distances.mean(),
        'rmsd': np.sqrt((distances**2).mean()),
        'msd': distances.max(),
        'hd95': max(np.percentile(there, 95), np.percentile(back, 95)),
    }


def exact_crf(image, mask, s1, s2, s3, max_iter):
    """The mean field over all pairs of voxels of a small box (z, y, x), straight from the energy: what the engines approximate."""
    places = np.indices(mask.shape, np.float32).reshape(3, -1).T
    values = image.reshape(-1, 1).astype(np.float32)

    def normalised(features):
        squares = (features**2).sum(1)
        kernel = np.exp(features @ features.T - 0.5 * (squares[:, None] + squares))
        norm = 1 / np.sqrt(kernel.sum(1))
        return norm[:, None] * kernel * norm

    kernels = 3 * normalised(places / s1) + 10 * normalised(np.hstack([places / s2, values / s3]))
    unary = np.where(mask.ravel(), 1, -1) * np.log(9)
    signed = np.tanh(unary / 2)  # P(liver) - P(background)
    for _ in range(max_iter):
        signed = np.tanh((unary + kernels @ signed.astype(np.float32)) / 2)
    return (signed > 0).reshape(mask.shape).astype(np.uint8)


def block(*layers):
    return nn.Sequential(*(part for layer in layers for part in (layer, nn.PReLU(layer.out_channels))))


def conv(inputs, outputs, dilation=1):
    return nn.Conv3d(inputs, outputs, 3, padding=dilation, dilation=dilation)


def head(inputs, factor):
    larger = nn.Upsample(scale_factor=(factor, 2 * factor, 2 * factor), mode='trilinear')
    return nn.Sequential(nn.Conv3d(inputs, 1, 1), larger, nn.Sigmoid())


class Network(nn.Module):
    """The ResUNet layer by layer as the paper has it, by names that take its weights: four heads in any mode."""

    def __init__(self, drop_rate=0.3):
        super().__init__()
        self.drop_rate = drop_rate
        self.encoder_stage1 = block(conv(1, 16), conv(16, 16))
        self.decoder_stage4 = block(conv(32 + 16, 32), conv(32, 32))
        for level, (width, dilations) in enumerate([(32, (1, 1, 1)), (64, (1, 2, 4)), (128, (3, 4, 5))], 1):
            setattr(self, f'down_conv{level}', block(nn.Conv3d(width // 2, width, 2, 2)))
            setattr(self, f'encoder_stage{level + 1}', block(*(conv(width, width, d) for d in dilations)))
            setattr(self, f'up_conv{5 - level}', block(nn.ConvTranspose3d(2 * width, width, 2, 2)))
        for level, (inputs, width) in enumerate([(128, 256), (128 + 64, 128), (64 + 32, 64)], 1):
            setattr(self, f'decoder_stage{level}', block(conv(inputs, width), conv(width, width), conv(width, width)))
        self.down_conv4 = block(conv(128, 256))
        for level, width in enumerate([256, 128, 64, 32], 1):
            setattr(self, f'map{level}', head(width, 2 ** (4 - level)))

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
        return self.map1(x1), self.map2(x2), self.map3(x3), self.map4(x4)

    def drop(self, x):
        return F.dropout(x, self.drop_rate, self.training)


def tversky(prediction, target):
    prediction = prediction[:, 0]
    shared = (prediction * target).sum((1, 2, 3))
    missed, false = ((1 - prediction) * target).sum((1, 2, 3)), (prediction * (1 - target)).sum((1, 2, 3))
    return (1 - shared / (shared + 0.3 * false + 0.7 * missed + 1)).clamp(0, 2).mean()


@torch.no_grad()
def window_mean(network, ct, size, stride, device='cpu'):
    """Mean probability over all windows of a normalised ct (z, y, x), one window at a time, sums on the host."""
    total = np.zeros((len(ct), 2 * ct.shape[1], 2 * ct.shape[2]), np.float32)
    times = np.zeros((len(ct), 1, 1), np.float32)
    for start in [*range(0, len(ct) - size, stride), len(ct) - size]:
        heads = network(torch.from_numpy(ct[start : start + size])[None, None].to(device))
        total[start : start + size] += heads[-1].cpu().numpy().reshape(total[:size].shape)
        times[start : start + size] += 1
    return total / times


def resample(ct, lower, upper):
    """A CT in HU as the network sees it, half size in plane, slices as stored."""
    ct = np.clip(ct, lower, upper).astype(np.float32)
    return ndimage.zoom(ct, (1, 0.5, 0.5), order=3) / np.float32(max(abs(lower), abs(upper)))
