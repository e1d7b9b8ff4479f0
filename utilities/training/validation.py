"""The network as it is, in the middle of its training, on whole cases that it is not trained on."""

import numpy as np

from utilities.base import distributed
from utilities.evaluation.calculate_metrics import count_voxels, overlap_metrics
from utilities.inference.predict_mask import WindowSettings, predict_mask


class Validation:
    """samples: a Dataset of held-out cases. Uses no random numbers, so that a training is the same with and without it."""

    def __init__(self, network, samples, size, threshold, device, precision, air):
        self.network, self.samples, self.size, self.threshold = network, samples, size, threshold
        self.device, self.precision, self.air = device, precision, air

    def predict(self, ct, shape):
        """The mask, uint8 of `shape` (z, Y, X), of a normalised CT (z, y, x) float32: windows side by side, no post-processing."""
        training = self.network.training
        self.network.eval()
        try:
            windows = WindowSettings(self.size, self.size, self.threshold, self.air, precision=self.precision)
            return predict_mask(self.network, ct, shape, windows, self.device)
        finally:
            self.network.train(training)

    def dice(self):
        """Mean Dice over the cases, of which each rank predicts its share; both masks empty: 1."""
        found = {}
        for index in range(distributed.rank(), len(self.samples.cases), distributed.world_size()):
            ct, label = self.samples.whole(index)
            found[index] = overlap_metrics(*count_voxels(label, self.predict(ct, label.shape)))['dice']
        together = {index: dice for each in distributed.all_gather(found) for index, dice in each.items()}
        return float(np.mean([together[index] for index in sorted(together)]))
