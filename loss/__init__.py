"""The losses by their names, which the parameter `loss` takes."""

from loss.BCE import BCELoss
from loss.Dice import DiceLoss
from loss.ELDice import ELDiceLoss
from loss.Hybrid import HybridLoss
from loss.Jaccard import JaccardLoss
from loss.SS import SSLoss
from loss.Tversky import TverskyLoss
from loss.WBCE import WCELoss

LOSSES = {
    'Dice': DiceLoss,
    'ELDice': ELDiceLoss,
    'Jaccard': JaccardLoss,
    'SS': SSLoss,
    'Tversky': TverskyLoss,
    'Hybrid': HybridLoss,
    'BCE': BCELoss,
    'WCE': WCELoss,
}
