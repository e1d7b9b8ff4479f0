"""Write report.html: the tables, pictures, curves and surfaces of val.py and the CRF on one page without a network.

In:   pred_path: result.csv, summary.json, masks; crf_path: the same of the CRF (optional), of these predictions only;
      test_ct_path, test_seg_path (optional); loss.csv beside the weights (optional)
Out:  pred_path/report.html

    python scripts/write_report.py
"""

import sys
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from utilities.base import environment

if __name__ == '__main__':
    environment.prepare()

import pandas

from utilities.base.atomic_write import atomic_write
from utilities.base.errors import InputError, one_line
from utilities.base.folder_lock import lock_folder
from utilities.base.log import log, log_to_file
from utilities.evaluation.tables import in_cell
from utilities.run import run_cases
from utilities.run.script import run_script
from utilities.viewing.case_figures import draw_case
from utilities.viewing.case_volumes import list_masks, read_case
from utilities.viewing.figure_files import encode_png
from utilities.viewing.report import PageCase, StageResult, encode_jpeg, render_page
from utilities.viewing.result_tables import name_crf, read_result, sort_worst_first
from utilities.viewing.surface_mesh import extract_surface, pack_surface
from utilities.viewing.table_figures import draw_bland_altman, draw_box_plots
from utilities.viewing.training_figure import draw_loss_curve
from utilities.volumes.cases import Case, find_cases, output_name

BYTES_PER_VOXEL = 12  # of memory for a case, at most, as benchmarks/benchmark.py measures it


@dataclass(frozen=True)
class CaseToDraw:
    """A case of the table whose CT exists.

    name: as in the table. mask_paths: {name of a mask: path}. has_surfaces: whether the page shows its surfaces.
    """

    name: str
    case: Case
    mask_paths: dict[str, Path | None]
    has_surfaces: bool

    @property
    def voxels(self) -> int:
        """Number of voxels of the CT, by which run_cases estimates the memory."""
        return self.case.voxels


def main(para: SimpleNamespace) -> int:
    """Write the report; return the exit status."""
    folder = Path(para.pred_path)
    read_result(folder, 'result', 'pred_path', 'python val.py')  # raises before lock_folder would make a new folder
    lock_folder(folder, 'pred_path')
    lock_folder(para.crf_path, 'crf_path', shared=True)
    log_to_file(folder / 'report.log')

    results = read_results(para)
    cases, failures = draw_cases(para, results)
    html = render_page(f'Liver segmentation: {folder}', results, cases, draw_curves(para, results))
    with atomic_write(folder / 'report.html') as part:
        part.write_bytes(html)

    log.info(one_line(f'written: {folder / "report.html"}, {len(html) / 1e6:.1f} MB; open it in a browser'))
    for name, reason in failures:
        log.info(one_line(f'failed: {name}: {reason}'))
    return 1 if failures else 0


def read_results(para: SimpleNamespace) -> dict[str, StageResult]:
    """Read what val.py wrote, and what the CRF wrote for the same predictions, if it did."""
    results = {'val.py': read_result(para.pred_path, 'result', 'pred_path', 'python val.py')}
    if (Path(para.crf_path) / 'result-post-processing.csv').exists():
        table, summary = read_result(para.crf_path, 'result-post-processing', 'crf_path', 'python Densecrf/3D-CRF.py')
        table, summary = drop_other_predictions(table, summary, results['val.py'][0])
        if len(table):
            results[name_crf(para.crf_path)] = table, summary
    return results


def drop_other_predictions(
    table: pandas.DataFrame, summary: dict[str, Any], predicted: pandas.DataFrame
) -> StageResult:
    """Drop the cases of a CRF whose predictions are not those of val.py's table `predicted`, with a warning for each.

    Without some of its cases the global Dice of the summary is unknown and becomes None.
    """
    table = table[table.index.isin(predicted.index)]
    dice_before = table.reindex(columns=['dice_before'])['dice_before']
    dice_now = predicted.reindex(table.index, columns=['dice'])['dice']
    is_other = (dice_before - dice_now).abs() > 1e-9
    for name in table.index[is_other]:
        log.warning(
            one_line(f'warning: {name}: the CRF refined an older prediction, and is left out; run the CRF again')
        )
    if is_other.any():
        return table[~is_other], {**summary, 'global_dice': None}
    return table, summary


def draw_cases(para: SimpleNamespace, results: dict[str, StageResult]) -> tuple[list[PageCase], list[tuple[str, str]]]:
    """Draw all cases of val.py's table, the worst first; return them and (name, reason) of those that failed."""
    names = sort_worst_first(results['val.py'][0])
    drawn, failures = run_cases.run_cases(
        partial(draw_case_for_page, window=(para.lower, para.upper), grid_tolerance=para.grid_tolerance),
        find_cases_to_draw(para, results, names),
        'report',
        check_case=check_masks,
        workers=run_cases.Workers(para.num_workers, para.dask_scheduler, BYTES_PER_VOXEL),
    )
    cases = {case.name: case for case in drawn}
    for name in names:
        if name not in cases:
            cases[name] = PageCase(name, None, dict(failures).get(name, 'No picture: the CT was removed.'), {})
    return [cases[name] for name in names], failures


def find_cases_to_draw(para: SimpleNamespace, results: dict[str, StageResult], names: list[str]) -> list[CaseToDraw]:
    """Find the cases of the given names whose CT exists; log a warning for each of the others."""
    all_cases = find_cases(para.test_ct_path, 'test_ct_path', para.test_seg_path, para.spacing_override)
    case_of = {in_cell(case.ct.name): case for case in all_cases}
    predicted, refined = list_masks(para.pred_path), list_masks(para.crf_path)
    found = []
    for rank, name in enumerate(names):
        if name not in case_of:
            log.warning(
                one_line(
                    f'warning: {name}: no longer in {para.test_ct_path}: it is in the table, without a picture; '
                    'see test_ct_path'
                )
            )
            continue
        case = case_of[name]
        mask_paths = {'prediction': predicted.get(output_name(case.name, 'pred'))}
        for crf_name, (table, _) in list(results.items())[1:]:
            if name in table.index:
                mask_paths[crf_name] = refined.get(output_name(case.name, 'crf'))
        found.append(CaseToDraw(name, case, mask_paths, rank < para.report_surfaces))
    return found


def check_masks(case: CaseToDraw) -> list[str]:
    """Return a warning if the predicted mask of a case no longer exists, else an empty list."""
    return [] if case.mask_paths['prediction'] else ['its mask was removed; the picture is drawn without it']


def draw_case_for_page(case: CaseToDraw, window: tuple[float, float], grid_tolerance: float) -> PageCase:
    """Draw a case and its surfaces.

    Args:
        case: the case.
        window: lowest and highest HU of the picture.
        grid_tolerance: how far the corners of a mask may lie from those of the CT, in mm.

    Raises:
        InputError: a file cannot be read, or a mask lies on another grid than the CT.
    """
    volumes = read_case(case.case, case.mask_paths, window, grid_tolerance)
    surfaces = {}
    if case.has_surfaces and any(mask.any() for mask in volumes.masks.values()):
        for name, mask in volumes.masks.items():
            surfaces[name] = pack_surface(*extract_surface(mask, volumes.geometry)) if mask.any() else None
    return PageCase(case.name, encode_jpeg(draw_case(volumes, window)), '', surfaces)


def draw_curves(para: SimpleNamespace, results: dict[str, StageResult]) -> list[tuple[str, bytes]]:
    """Draw the losses and the scores; return (title, PNG) of the figures that the files allow."""
    weights = Path(str(results['val.py'][1].get('weights', para.module_path)))
    loss_csv = (weights if weights.is_dir() else weights.parent) / 'loss.csv'
    tables = {stage: table for stage, (table, _) in results.items()}
    figures = {
        'Dice and ASSD, before and after': partial(draw_box_plots, tables),
        'Volume beside the label (Bland-Altman)': partial(draw_bland_altman, tables),
    }
    if loss_csv.is_file():
        figures = {'Losses of the training': partial(draw_loss_curve, loss_csv), **figures}
    drawn = []
    for title, draw in figures.items():
        try:
            drawn.append((title, encode_png(draw())))
        except InputError as reason:
            log.info(one_line(f'not drawn: {title}: {reason}'))
    return drawn


if __name__ == '__main__':
    run_script(main, __doc__)
