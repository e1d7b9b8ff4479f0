"""Refine the masks of val.py with a dense CRF, as one volume.

In:   pred_path/pred-N.*, test_ct_path/volume-N.*, test_seg_path/segmentation-N.* (optional)
Out:  crf_path/crf-N.nii (uint8), result-post-processing.xlsx and .csv, summary-post-processing.json, and a record of
      each case in crf_path/manifest: a mask that was refined before with the same settings is not refined again

    python Densecrf/3D-CRF.py
"""

import sys
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from utilities.base import environment

if __name__ == '__main__':
    environment.prepare()

from Densecrf.refine_cases import main
from utilities.run.script import run_script

if __name__ == '__main__':
    run_script(partial(main, dimensions=3), __doc__)
