"""Refine the masks of val.py case by case: what 2D-CRF.py and 3D-CRF.py share."""

import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np

from Densecrf.crf import ENGINES, refine_in_box
from Densecrf.crf_settings import CrfSettings
from utilities.base.errors import InputError, one_line
from utilities.base.folder_lock import lock_folder
from utilities.base.log import log, log_to_file
from utilities.evaluation.tables import print_tables, score, write_tables
from utilities.run import run_cases, script
from utilities.run.manifest import Manifest
from utilities.run.parameter_rules import require_choice, settings_of_stage
from utilities.viewing.case_panes import CasePanes
from utilities.volumes.cases import Case, find_cases, find_volumes, output_name
from utilities.volumes.checks import check_header
from utilities.volumes.geometry import Geometry, require_same_grid
from utilities.volumes.read_write import read_ct, read_label, write_volume

# Peak memory in bytes per voxel of a CT, measured by benchmarks/benchmark.py with a bounding box that covers most of
# the CT.
BYTES_PER_VOXEL = {'grid': 20, 'pydensecrf': 60}


@dataclass(frozen=True)
class CaseSettings:
    """The settings that decide the refined mask of a case and its row of metrics.

    Args:
        crf: parameters of the CRF.
        dimensions: 3 for one CRF over the volume, 2 for one CRF per slice.
        margin: voxels (z, y, x) by which the mask's bounding box grows.
        window: lowest and highest HU; the CT is clipped to it.
        grid_tolerance: largest distance between corners of a mask and of its CT (mm).
        surface_tolerance: tolerance of the surface Dice (mm).
    """

    crf: CrfSettings
    dimensions: int
    margin: tuple[int, int, int]
    window: tuple[float, float]
    grid_tolerance: float
    surface_tolerance: float


@dataclass(frozen=True)
class Prediction:
    """A case and the path of the mask that val.py predicted for it."""

    case: Case
    mask_path: Path

    @property
    def name(self) -> str:
        """Name of the case."""
        return self.case.name

    @property
    def voxels(self) -> int:
        """Number of voxels of the case's CT."""
        return self.case.voxels

    @property
    def inputs(self) -> list:
        """The files and the spacing that decide the refined mask and its row of metrics."""
        return [*self.case.files, self.mask_path, self.case.spacing]

    @property
    def output_name(self) -> str:
        """Name of the refined mask without its ending, such as 'crf-1'."""
        return output_name(self.name, 'crf')


def main(para: SimpleNamespace, dimensions: int) -> int:
    """Run 2D-CRF.py or 3D-CRF.py with the settings `para`; return the exit status."""
    require_choice('crf_engine', para.crf_engine, ENGINES)
    predictions = find_predictions(para.test_ct_path, para.test_seg_path, para.pred_path, para.spacing_override)
    settings = case_settings(para, dimensions)
    compared = {'dimensions': dimensions, **settings_of_stage(vars(para), 'crf')}
    manifest = Manifest(para.crf_path, compared, 'crf_path')
    log_to_file(manifest.folder / f'{dimensions}D-CRF.log')
    panes = CasePanes(manifest.folder, para.visdom_server, para.visdom_port, vars(para))
    lock_folder(para.pred_path, 'pred_path', shared=True)

    records, failures = run_cases.run_cases(
        partial(refine_case, settings=settings, manifest=manifest),
        predictions,
        f'{dimensions}D CRF',
        check_case=partial(check_prediction, grid_tolerance=para.grid_tolerance),
        find_result=partial(find_record, manifest=manifest),
        on_result=partial(show_masks, panes=panes, folder=manifest.folder, crf_name=f'{dimensions}D CRF'),
        workers=run_cases.Workers(para.num_workers, para.dask_scheduler, BYTES_PER_VOXEL[para.crf_engine]),
    )
    if records:
        rows = [record['row'] for record in records]
        print_tables(*write_tables(manifest.folder, 'result-post-processing', rows, vars(para), failures))
    panes.close()
    return script.report_results(len(records), failures, para.crf_path, 'python scripts/draw_figures.py')


def case_settings(para: SimpleNamespace, dimensions: int) -> CaseSettings:
    """Return the settings of a case from the parameters of a run."""
    return CaseSettings(
        CrfSettings(para.s1, para.s2, para.s3, para.max_iter, para.crf_engine, para.crf_tolerance),
        dimensions,
        (para.z_expand, para.x_expand, para.y_expand),
        (para.lower, para.upper),
        para.grid_tolerance,
        para.surface_tolerance,
    )


def find_predictions(
    ct_path: Path | str, seg_path: Path | str, pred_path: Path | str, spacing_override: dict
) -> list[Prediction]:
    """Return the cases of the folder ct_path that have a mask in the folder pred_path.

    Raises InputError if there is none.
    """
    masks = find_volumes(pred_path, 'pred_path, or run first: python val.py')
    predictions = [
        Prediction(case, masks[output_name(case.name, 'pred')])
        for case in find_cases(ct_path, 'test_ct_path', seg_path, spacing_override)
        if output_name(case.name, 'pred') in masks
    ]
    if not predictions:
        raise InputError(f'{pred_path}: wanted pred-N for the volume-N of {ct_path}, found none; run python val.py')
    return predictions


def check_prediction(prediction: Prediction, grid_tolerance: float) -> list[str]:
    """Check the headers of a case; return warnings."""
    return check_header(prediction.case, False, grid_tolerance)


def find_record(prediction: Prediction, manifest: Manifest) -> dict | None:
    """Return the record of a case that was refined before from the same files with the same settings."""
    return manifest.find_finished(prediction.output_name, prediction.inputs)


def refine_case(prediction: Prediction, settings: CaseSettings, manifest: Manifest) -> dict:
    """Refine the mask of a case, write it into the manifest's folder, and return its record with its row of metrics."""
    start = time.monotonic()
    case = prediction.case
    ct, geometry = read_ct(case.ct, *settings.window, case.spacing)
    mask = read_mask(prediction.mask_path, case, ct.shape, geometry, settings.grid_tolerance)
    label = read_mask(case.label, case, ct.shape, geometry, settings.grid_tolerance) if case.label else None
    if not mask.any():
        log.warning(one_line(f'{prediction.mask_path}: the prediction is empty, so the refined mask is empty as well'))
    refined = refine_in_box(ct, mask, settings.crf, settings.dimensions, settings.margin)

    file_name = f'{prediction.output_name}.nii'
    manifest.begin_case(prediction.output_name, [file_name])
    write_volume(manifest.folder / file_name, refined, geometry)
    seconds = time.monotonic() - start
    row = score(case.ct.name, label, mask, refined, geometry.spacing, settings.surface_tolerance)
    return manifest.finish_case(prediction.output_name, prediction.inputs, [file_name], {**row, 'time': seconds})


def read_mask(
    path: Path, case: Case, ct_shape: tuple[int, ...], ct_geometry: Geometry, grid_tolerance: float
) -> np.ndarray:
    """Read a mask or label, uint8 (z, y, x); raise InputError if it does not lie on the grid of its CT."""
    mask, geometry = read_label(path, case.spacing)
    require_same_grid(path, mask.shape, geometry, case.ct, ct_shape, ct_geometry, grid_tolerance)
    return mask


def show_masks(prediction: Prediction, record: dict, panes: CasePanes, folder: Path, crf_name: str) -> None:
    """Show the predicted and the refined mask of a case in visdom."""
    masks = {'prediction': prediction.mask_path, crf_name: folder / f'{prediction.output_name}.nii'}
    panes.add(prediction.case, masks, record['row'])
