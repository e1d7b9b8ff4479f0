"""Refine the masks of val.py with a dense CRF, as one volume.

In:   pred_path/pred-N.*, test_ct_path/volume-N.*, test_seg_path/segmentation-N.* (optional)
Out:  crf_path/crf-N.nii (uint8), result-post-processing.xlsx and .csv, summary-post-processing.json

    python Densecrf/3D-CRF.py
"""
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from Densecrf.crf import find_predictions, refine_case
from utilities import cases
from utilities.command_line import run
from utilities.tables import print_tables, write_tables


def main(para):
    found = find_predictions(para.test_ct_path, para.test_seg_path, para.pred_path)
    expand = para.z_expand, para.x_expand, para.y_expand

    def refine(prediction):
        return refine_case(prediction, 3, para.crf_path, (para.lower, para.upper), expand, para.grid_tolerance, para.surface_tolerance,
                           s1=para.s1, s2=para.s2, s3=para.s3, max_iter=para.max_iter, engine=para.crf_engine, tolerance=para.crf_tolerance)

    rows, failures = cases.run(refine, found, '3D CRF')
    if rows:
        print_tables(*write_tables(Path(para.crf_path), 'result-post-processing', rows, vars(para), failures))
    return cases.report(len(rows), failures, para.crf_path, 'python utilities/draw_figures.py')


if __name__ == '__main__':
    run(main, __doc__)
