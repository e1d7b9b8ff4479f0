"""Draw the loss curve of a training, and the masks of val.py and the CRF on their CT.

In:   module_dir/loss.csv, test_ct_path, test_seg_path, pred_path, crf_path (each mask folder optional)
Out:  figure_path/loss_curve.png, figure_path/segmentation-result.png

    python utilities/draw_figures.py
"""
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from utilities.command_line import run
from utilities.errors import InputError
from utilities.figures import draw_loss_curve, draw_segmentation
from utilities.volume import ENDINGS, find_cases, patient_view, read_ct, read_label, renamed

MOST = 3  # cases in the figure


def main(para):
    figures = Path(para.figure_path)
    if (Path(para.module_dir) / 'loss.csv').exists():
        draw_loss_curve(Path(para.module_dir) / 'loss.csv', figures / 'loss_curve.png')
        print(f'written: {figures / "loss_curve.png"}')
    shown = []
    for case in find_cases(para.test_ct_path, 'test_ct_path', para.test_seg_path, para.spacing_override):
        masks = {'label': case.label, 'prediction': mask_file(para.pred_path, case, 'pred'), 'CRF': mask_file(para.crf_path, case, 'crf')}
        if masks['prediction'] and len(shown) < MOST:
            ct, geometry = read_ct(case.ct, para.lower, para.upper, case.spacing)
            shown.append((case.name, patient_view(ct, geometry),
                          {name: patient_view(*read_label(path, case.spacing)) for name, path in masks.items() if path}, geometry.spacing))
    if not shown:
        raise InputError(f'{para.pred_path}: wanted pred-N for the volume-N of {para.test_ct_path}, found none; run python val.py')
    draw_segmentation(shown, figures / 'segmentation-result.png', (para.lower, para.upper))
    print(f'written: {figures / "segmentation-result.png"}')


def mask_file(folder, case, word):
    return next((p for e in ENDINGS if (p := Path(folder) / f'{renamed(case.name, word)}{e}').exists()), None)


if __name__ == '__main__':
    run(main, __doc__)
