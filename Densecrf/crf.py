"""A fully connected conditional random field with two labels (Kraehenbuehl and Koltun, NIPS 2011), and its use on a mask.

Energy: -ln 0.9 for the mask's label and -ln 0.1 for the other; a Gaussian kernel of s1 voxels with Potts weight 3; a
bilateral kernel of s2 voxels and s3 HU with Potts weight 10; kernels normalised symmetrically by 1 / sqrt(K 1), the
voxel itself included.
"""

import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from Densecrf.grid import grid_field
from Densecrf.permutohedral import pydensecrf_field
from utilities.base.errors import InputError, one_line
from utilities.base.folder_lock import lock_folder
from utilities.base.log import log, log_to_file
from utilities.evaluation.tables import print_tables, score, write_tables
from utilities.image.bounding_box import grown_box
from utilities.run import run_cases, script
from utilities.run.manifest import Manifest
from utilities.viewing.case_panes import CaseBoard
from utilities.volumes.cases import Case, find_cases, find_volumes, output_name
from utilities.volumes.checks import check_header
from utilities.volumes.geometry import require_same_grid
from utilities.volumes.read_write import read_ct, read_label, write_volume

SETTINGS = (
    'lower',
    'upper',
    'z_expand',
    'x_expand',
    'y_expand',
    's1',
    's2',
    's3',
    'max_iter',
    'crf_engine',
    'crf_tolerance',
    'surface_tolerance',
)
BYTES = 20  # of memory for a voxel of a CT, if the box is most of it, three times as many with pydensecrf; see benchmarks/benchmark.py
CONFIDENCE = 0.9
SPATIAL_WEIGHT = 3
BILATERAL_WEIGHT = 10


def dense_crf(image, mask, s1, s2, s3, max_iter, engine='grid', dimensions=3, tolerance=0):
    """The mask (uint8, 0 or 1) after max_iter mean-field iterations over the image in HU; both (z, y, x).

    dimensions 3: one field; 2: each slice is a field of its own. tolerance: a field is left after an iteration that changes the label of at
    most this share of its voxels; 0 = never. Fields without liver stay empty: there is nothing to refine. Arrays of any type and order.
    Engines: 'grid' (ours) and 'pydensecrf' (the reference, a permutohedral lattice).
    Raises ValueError for shapes that differ or are not 3D, parameters out of range, an unknown engine and an image that is not finite;
    InputError if the engine is not installed, or if s2 and s3 are too small for 'grid'.
    """
    if image.shape != mask.shape or image.ndim != 3:
        raise ValueError(f'image and mask: wanted one shape (z, y, x), got {image.shape} and {mask.shape}')
    if not all(0 < value < np.inf for value in (s1, s2, s3, max_iter)):
        raise ValueError(f's1, s2, s3, max_iter: wanted above 0, got {s1}, {s2}, {s3}, {max_iter}')
    if dimensions not in (2, 3) or not 0 <= tolerance < 1:
        raise ValueError(f'dimensions, tolerance: wanted 2 or 3, and 0 to below 1, got {dimensions} and {tolerance}')
    if engine not in ENGINES:
        raise ValueError(f'engine: wanted one of {", ".join(ENGINES)}, got {engine!r}')
    mask = np.ascontiguousarray(mask != 0)
    if not mask.any():
        return mask.view(np.uint8)
    if not (image.min() > -1e30 and image.max() < 1e30):
        raise ValueError(f'image: wanted HU, got values from {image.min()} to {image.max()}')
    refined = ENGINES[engine](
        image, mask, dimensions, s1, s2, s3, max_iter, tolerance, CONFIDENCE, SPATIAL_WEIGHT, BILATERAL_WEIGHT
    )
    return refined.view(np.uint8)


ENGINES = {'grid': grid_field, 'pydensecrf': pydensecrf_field}


def refine(ct, mask, expand, dimensions, **crf):
    """The CRF inside the box of a mask (z, y, x), grown by `expand` (z, y, x) voxels; outside the box no liver.

    dimensions 3: the box as one volume; 2: slice by slice. crf: s1, s2, s3, max_iter, engine, tolerance of dense_crf.
    """
    refined = np.zeros(mask.shape, np.uint8)
    if mask.any():
        box = grown_box(mask, expand)
        refined[box] = dense_crf(ct[box], mask[box], dimensions=dimensions, **crf)
    return refined


@dataclass(frozen=True)
class Prediction:
    case: Case
    mask: Path

    @property
    def name(self):
        return self.case.name

    @property
    def voxels(self):
        return self.case.voxels

    @property
    def inputs(self):
        """What the refined mask and its row depend on, besides the settings."""
        return [*self.case.files, self.mask, self.case.spacing]


def find_predictions(ct_path, seg_path, pred_path, spacing_override):
    """The cases of ct_path that have a mask in pred_path."""
    masks = find_volumes(pred_path, 'pred_path, or run first: python val.py')
    found = [
        Prediction(case, masks[output_name(case.name, 'pred')])
        for case in find_cases(ct_path, 'test_ct_path', seg_path, spacing_override)
        if output_name(case.name, 'pred') in masks
    ]
    if not found:
        raise InputError(f'{pred_path}: wanted pred-N for the volume-N of {ct_path}, found none; run python val.py')
    return found


def refine_case(
    prediction,
    manifest,
    grid_tolerance,
    dimensions,
    lower,
    upper,
    z_expand,
    x_expand,
    y_expand,
    s1,
    s2,
    s3,
    max_iter,
    crf_engine,
    crf_tolerance,
    surface_tolerance,
):
    """Read a CT and its mask, refine the mask, write it into the manifest's folder; returns its record with the row of the table.

    lower, upper: HU; z_expand, x_expand, y_expand: voxels along the array's axes; grid_tolerance, surface_tolerance: mm.
    """
    start = time.monotonic()
    case = prediction.case
    ct, geometry = read_ct(case.ct, lower, upper, case.spacing)

    def read_mask(path):
        mask, mask_geometry = read_label(path, case.spacing)
        require_same_grid(path, mask.shape, mask_geometry, case.ct, ct.shape, geometry, grid_tolerance)
        return mask

    mask = read_mask(prediction.mask)
    label = read_mask(case.label) if case.label else None
    if not mask.any():
        log.warning(one_line(f'{prediction.mask}: the prediction is empty, and stays so'))
    refined = refine(
        ct,
        mask,
        (z_expand, x_expand, y_expand),
        dimensions,
        s1=s1,
        s2=s2,
        s3=s3,
        max_iter=max_iter,
        engine=crf_engine,
        tolerance=crf_tolerance,
    )
    name = output_name(case.name, 'crf')
    manifest.start(name, [f'{name}.nii'])
    write_volume(manifest.folder / f'{name}.nii', refined, geometry)
    seconds = time.monotonic() - start
    row = {**score(case.ct.name, label, mask, refined, geometry.spacing, surface_tolerance), 'time': seconds}
    return manifest.add(name, prediction.inputs, [f'{name}.nii'], row)


def main(para, dimensions):
    """What 2D-CRF.py and 3D-CRF.py do, from their settings on; returns the exit status."""
    found = find_predictions(para.test_ct_path, para.test_seg_path, para.pred_path, para.spacing_override)
    settings = {'dimensions': dimensions, **{name: getattr(para, name) for name in SETTINGS}}
    manifest = Manifest(para.crf_path, settings, 'crf_path')
    log_to_file(manifest.folder / f'{dimensions}D-CRF.log')
    board = CaseBoard(manifest.folder, para.visdom_server, para.visdom_port, vars(para))
    lock_folder(para.pred_path, 'pred_path', shared=True)

    def check(prediction):
        return check_header(prediction.case, False, para.grid_tolerance)

    def done(prediction):
        return manifest.done(output_name(prediction.name, 'crf'), prediction.inputs)

    def refined_case(prediction):
        return refine_case(prediction, manifest, para.grid_tolerance, **settings)

    def show(prediction, record):
        masks = {'prediction': prediction.mask, 'CRF': manifest.folder / f'{output_name(prediction.name, "crf")}.nii'}
        board.add(prediction.case, masks, record['row'])

    workers = run_cases.Workers(para.num_workers, para.dask_scheduler, BYTES * (1 if para.crf_engine == 'grid' else 3))
    refined, failures = run_cases.run_cases(
        refined_case, found, f'{dimensions}D CRF', check=check, done=done, after=show, workers=workers
    )
    if refined:
        rows = [record['row'] for record in refined]
        print_tables(*write_tables(manifest.folder, 'result-post-processing', rows, vars(para), failures))
    board.close()
    return script.report_results(len(refined), failures, para.crf_path, 'python scripts/draw_figures.py')
