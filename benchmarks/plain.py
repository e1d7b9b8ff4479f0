"""Do what the pipeline does in the plain way: with well-known libraries and arrays of the whole volume."""

from pathlib import Path

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

from data_prepare.get_training_set import TrainingSetSettings


def training_case(
    ct_file: Path,
    label_file: Path,
    ct_output: Path,
    label_output: Path,
    settings: TrainingSetSettings,
) -> None:
    """Resample a case to the training grid, half size in plane, by splines over the whole volume.

    Args:
        ct_file, label_file: the case.
        ct_output, label_output: files to write.
        settings: down_scale must be 0.5.
    """
    ct_image = sitk.ReadImage(str(ct_file), sitk.sitkInt16)
    ct = np.clip(sitk.GetArrayFromImage(ct_image), settings.lower, settings.upper)
    label = (sitk.GetArrayFromImage(sitk.ReadImage(str(label_file), sitk.sitkUInt8)) > 0).astype(np.uint8)
    factor = ct_image.GetSpacing()[2] / settings.slice_thickness
    ct = ndimage.zoom(ct, (factor, 0.5, 0.5), order=3)
    label = ndimage.zoom(label, (factor, 1, 1), order=0)
    with_liver = np.flatnonzero(label.any((1, 2)))
    slices = slice(max(0, with_liver[0] - settings.expand_slice), with_liver[-1] + 1 + settings.expand_slice)
    sitk.WriteImage(sitk.GetImageFromArray(ct[slices]), str(ct_output))
    sitk.WriteImage(sitk.GetImageFromArray(label[slices]), str(label_output))


def sample(ct_file: Path, label_file: Path, first: int, size: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Read both files whole and return the slices of a sample: CT (1, size, y, x) and label (size, y, x)."""
    ct = sitk.GetArrayFromImage(sitk.ReadImage(str(ct_file), sitk.sitkInt16)).astype(np.float32) / 200
    label = sitk.GetArrayFromImage(sitk.ReadImage(str(label_file), sitk.sitkUInt8))
    return torch.from_numpy(ct[first : first + size])[None], torch.from_numpy(label[first : first + size])


def keep_liver(mask: np.ndarray, maximum_hole: float) -> np.ndarray:
    """Return the largest 6-connected component of a mask (z, y, x), holes below `maximum_hole` voxels filled."""
    labelled = components(mask, connectivity=1)
    largest = max(regionprops(labelled), key=lambda region: region.area)
    liver = labelled == largest.label
    max_size = maximum_hole - 1  # a hole of max_size voxels is filled as well
    return remove_small_holes(liver, max_size=max_size, connectivity=2).astype(np.uint8)


def metrics(real: np.ndarray, predicted: np.ndarray, spacing: tuple[float, float, float]) -> dict[str, float]:
    """Compare two masks (z, y, x): overlap from sums over the volume, surface distances in mm from KD-trees."""
    real, predicted = real != 0, predicted != 0
    intersection, union = (real & predicted).sum(), (real | predicted).sum()
    neighbourhood = ndimage.generate_binary_structure(3, 2)
    real_surface, predicted_surface = (
        np.argwhere(mask & ~ndimage.binary_erosion(mask, neighbourhood)) * spacing[::-1] for mask in (real, predicted)
    )
    from_real, _ = KDTree(predicted_surface).query(real_surface)
    from_predicted, _ = KDTree(real_surface).query(predicted_surface)
    distances = np.concatenate([from_real, from_predicted])
    return {
        'dice': 2 * intersection / (real.sum() + predicted.sum()),
        'jaccard': intersection / union,
        'voe': 1 - intersection / union,
        'fnr': (real & ~predicted).sum() / union,
        'fpr': (predicted & ~real).sum() / union,
        'rvd': (predicted.sum() - real.sum()) / real.sum(),
        'assd': distances.mean(),
        'rmsd': np.sqrt((distances**2).mean()),
        'msd': distances.max(),
        'hd95': max(np.percentile(from_real, 95), np.percentile(from_predicted, 95)),
    }


def exact_crf(image: np.ndarray, mask: np.ndarray, s1: float, s2: float, s3: float, max_iter: int) -> np.ndarray:
    """Return the labels of the mean field over all pairs of voxels of a small box (z, y, x), uint8.

    The engines of the CRF approximate this. The message includes the voxel itself, as in pydensecrf.

    Args:
        image: CT in HU.
        mask: prediction, 0 or 1.
        s1, s2, s3, max_iter: the parameters with these names.
    """
    positions = np.indices(mask.shape, np.float32).reshape(3, -1).T
    values = image.reshape(-1, 1).astype(np.float32)
    spatial, bilateral = positions / s1, np.hstack([positions / s2, values / s3])
    kernels = 3 * normalised_kernel(spatial) + 10 * normalised_kernel(bilateral)
    unary = np.where(mask.ravel(), 1, -1) * np.log(9)
    difference = np.tanh(unary / 2)  # P(liver) - P(background)
    for _ in range(max_iter):
        difference = np.tanh((unary + kernels @ difference.astype(np.float32)) / 2)
    return (difference > 0).reshape(mask.shape).astype(np.uint8)


def normalised_kernel(features: np.ndarray) -> np.ndarray:
    """Return the Gaussian kernel between all pairs of features (voxels, components), symmetrically normalised."""
    squares = (features**2).sum(1)
    kernel = np.exp(features @ features.T - 0.5 * (squares[:, None] + squares))
    norm = 1 / np.sqrt(kernel.sum(1))
    return norm[:, None] * kernel * norm


def block(*layers: nn.Module) -> nn.Sequential:
    """Return the layers, each followed by a PReLU of its own."""
    return nn.Sequential(*(module for layer in layers for module in (layer, nn.PReLU(layer.out_channels))))


def conv(inputs: int, outputs: int, dilation: int = 1) -> nn.Conv3d:
    return nn.Conv3d(inputs, outputs, 3, padding=dilation, dilation=dilation)


def head(inputs: int, factor: int) -> nn.Sequential:
    upsample = nn.Upsample(scale_factor=(factor, 2 * factor, 2 * factor), mode='trilinear')
    return nn.Sequential(nn.Conv3d(inputs, 1, 1), upsample, nn.Sigmoid())


class Network(nn.Module):
    """The ResUNet layer by layer, with the names of its weights; it returns four heads in any mode."""

    def __init__(self, drop_rate: float = 0.3):
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

    def forward(self, ct: torch.Tensor) -> tuple[torch.Tensor, ...]:
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

    def drop(self, x: torch.Tensor) -> torch.Tensor:
        return F.dropout(x, self.drop_rate, self.training)


def tversky(prediction: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Return the Tversky loss of probabilities (n, 1, z, y, x) and labels (n, z, y, x)."""
    prediction = prediction[:, 0]
    true_positives = (prediction * target).sum((1, 2, 3))
    false_positives = (prediction * (1 - target)).sum((1, 2, 3))
    false_negatives = ((1 - prediction) * target).sum((1, 2, 3))
    score = true_positives / (true_positives + 0.3 * false_positives + 0.7 * false_negatives + 1)
    return (1 - score).clamp(0, 2).mean()


@torch.no_grad()
def mean_probability(
    network: nn.Module, ct: np.ndarray, size: int, stride: int, device: torch.device | str = 'cpu'
) -> np.ndarray:
    """Return the mean probability over all windows, one window at a time with sums on the host, (z, 2y, 2x).

    Args:
        network: returns probabilities, or heads of which the last one counts.
        ct: normalised, (z, y, x).
        size: slices of a window.
        stride: slices between the starts of two windows.
        device: of the network.
    """
    total = np.zeros((len(ct), 2 * ct.shape[1], 2 * ct.shape[2]), np.float32)
    count = np.zeros((len(ct), 1, 1), np.float32)
    for start in [*range(0, len(ct) - size, stride), len(ct) - size]:
        heads = network(torch.from_numpy(ct[start : start + size])[None, None].to(device))
        total[start : start + size] += heads[-1].cpu().numpy().reshape(total[:size].shape)
        count[start : start + size] += 1
    return total / count


def resample(ct: np.ndarray, lower: float, upper: float) -> np.ndarray:
    """Return a CT in HU as the network's input: clipped, half size in plane, divided by the largest bound."""
    ct = np.clip(ct, lower, upper).astype(np.float32)
    return ndimage.zoom(ct, (1, 0.5, 0.5), order=3) / np.float32(max(abs(lower), abs(upper)))
