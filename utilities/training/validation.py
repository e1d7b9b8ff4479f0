"""Validate a network during its training, on whole cases that it is not trained on."""

import numpy as np
import torch

from utilities.base import distributed
from utilities.evaluation.calculate_metrics import count_voxels, overlap_metrics
from utilities.inference.predict_mask import WindowSettings, predict_mask


class Validation:
    """Compute the Dice of the validation cases. No random number is drawn, so validating does not change a training.

    Args:
        network: the network in training.
        samples: the validation cases, a dataset.dataset.Dataset; None if only `predict` is used.
        windows: how the network runs over a volume.
        device: device of the network.
    """

    def __init__(
        self,
        network: torch.nn.Module,
        samples: torch.utils.data.Dataset | None,
        windows: WindowSettings,
        device: torch.device,
    ) -> None:
        self.network, self.samples, self.windows, self.device = network, samples, windows, device

    def predict(self, ct: np.ndarray, shape: tuple[int, int, int]) -> np.ndarray:
        """Predict a mask, uint8 of `shape` (z, Y, X), from a normalised CT, float32 (z, y, x); no post-processing."""
        was_training = self.network.training
        self.network.eval()
        try:
            return predict_mask(self.network, ct, shape, self.windows, self.device)
        finally:
            self.network.train(was_training)

    def mean_dice(self) -> float:
        """Return the mean Dice over the cases; it is 1 for a case whose label and prediction are both empty.

        Under torchrun each rank predicts its share of the cases; the result is the same on all ranks.
        """
        own_dice = {}
        for index in range(distributed.rank(), len(self.samples.cases), distributed.world_size()):
            ct, label = self.samples.read_case(index)
            prediction = self.predict(ct, label.shape)
            own_dice[index] = overlap_metrics(*count_voxels(label, prediction))['dice']
        dice = {index: value for ranks_dice in distributed.all_gather(own_dice) for index, value in ranks_dice.items()}
        return float(np.mean([dice[index] for index in sorted(dice)]))
