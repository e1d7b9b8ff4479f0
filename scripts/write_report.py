"""Write one page that shows what val.py and the CRF made of each case: tables, pictures, curves, surfaces. It opens without a network.

In:   pred_path: result.csv, summary.json, masks; crf_path: the same of the CRF (optional, and only what belongs to these predictions);
      test_ct_path, test_seg_path (optional); loss.csv beside the weights (optional)
Out:  pred_path/report.html

    python scripts/write_report.py
"""

import sys
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from utilities.base import environment

if __name__ == '__main__':
    environment.prepare()

from utilities.base.atomic_write import atomic_write
from utilities.base.errors import InputError, one_line
from utilities.base.folder_lock import lock_folder
from utilities.base.log import log, log_to_file
from utilities.evaluation.tables import in_cell
from utilities.run import run_cases
from utilities.run.manifest import settings_of_cases
from utilities.run.script import run_script
from utilities.viewing.case_figures import draw_case
from utilities.viewing.case_volumes import read_case
from utilities.viewing.figure_files import encode_png
from utilities.viewing.report import jpeg, page, read_result, worst_first
from utilities.viewing.surface_mesh import packed, surface
from utilities.viewing.table_figures import draw_bland_altman, draw_box_plots
from utilities.viewing.training_figure import draw_loss_curve
from utilities.volumes.cases import Case, find_cases, list_volumes, output_name

BYTES = 12  # of memory for a voxel of a CT, at most; see benchmarks/benchmark.py


@dataclass(frozen=True)
class Shown:
    """A case of the table: its name there, CT and label, masks by the names of figures.COLOURS, and whether it gets surfaces."""

    name: str
    case: Case
    masks: dict
    turns: bool

    @property
    def voxels(self):
        return self.case.voxels


def main(para):
    folder = Path(para.pred_path)
    read_result(folder, 'result', 'pred_path', 'python val.py')  # before the claim, which would make the folder
    lock_folder(folder, 'pred_path')
    lock_folder(para.crf_path, 'crf_path', shared=True)
    log_to_file(folder / 'report.log')
    table, summary = read_result(folder, 'result', 'pred_path', 'python val.py')
    results = {'val.py': (table, summary), **crf_result(para.crf_path, table)}
    order = worst_first(table)

    def check(shown):
        return [] if 'prediction' in shown.masks else ['its mask is gone; shown without']

    def draw(shown):
        return shown.name, picture_and_surfaces(shown, para.lower, para.upper, para.grid_tolerance)

    workers = run_cases.Workers(para.num_workers, para.dask_scheduler, BYTES)
    drawn, failures = run_cases.run_cases(
        draw, find_shown(para, results, order), 'report', check=check, workers=workers
    )
    drawn, notes, rows = dict(drawn), dict(failures), []
    for name in order:
        picture, surfaces = drawn.get(name, (None, {}))
        note = notes.get(name, '' if picture else 'No picture: the CT is gone.')
        rows.append({'name': name, 'picture': picture, 'note': note, 'surfaces': surfaces})
    text = page(f'Liver segmentation: {folder}', results, rows, curves(para.module_path, results))
    with atomic_write(folder / 'report.html') as part:
        part.write_bytes(text)
    log.info(one_line(f'written: {folder / "report.html"}, {len(text) / 1e6:.1f} MB; open it in a browser'))
    for name, why in failures:
        log.info(one_line(f'failed: {name}: {why}'))
    return 1 if failures else 0


def crf_result(folder, predicted):
    """{'2D CRF' or '3D CRF': (table, summary)}, of the cases whose masks of val.py (table `predicted`) the CRF refined; {} without any."""
    if not (Path(folder) / 'result-post-processing.csv').exists():
        return {}
    table, summary = read_result(folder, 'result-post-processing', 'crf_path', 'python Densecrf/3D-CRF.py')
    table = table[table.index.isin(predicted.index)]
    before, dice = (
        part.reindex(table.index, columns=[name])[name] for part, name in ((table, 'dice_before'), (predicted, 'dice'))
    )
    other = (before - dice).abs() > 1e-9
    for name in table.index[other]:
        log.warning(
            one_line(
                f'warning: {name}: the CRF refined another prediction than that of now, and is left out; run it again'
            )
        )
    if other.any():
        table, summary = table[~other], {**summary, 'global_dice': None}
    dimensions = [settings.get('dimensions') for settings in settings_of_cases(folder) if isinstance(settings, dict)]
    return {f'{dimensions[0]}D CRF' if dimensions in ([2], [3]) else 'CRF': (table, summary)} if len(table) else {}


def find_shown(para, results, order):
    """The cases of the table, in this order, whose CT is still there; a line for each of the others."""
    found = {
        in_cell(case.ct.name): case
        for case in find_cases(para.test_ct_path, 'test_ct_path', para.test_seg_path, para.spacing_override)
    }
    predicted = list_volumes(para.pred_path)
    refined = list_volumes(para.crf_path) if len(results) > 1 else {}
    of_crf = [table.index for table, _ in list(results.values())[1:]]
    shown = []
    for rank, name in enumerate(order):
        if name not in found:
            log.warning(
                one_line(
                    f'warning: {name}: not in {para.test_ct_path} any more: in the table, without picture; see test_ct_path'
                )
            )
            continue
        case = found[name]
        masks = {
            'prediction': predicted.get(output_name(case.name, 'pred')),
            'CRF': refined.get(output_name(case.name, 'crf')) if any(name in index for index in of_crf) else None,
        }
        shown.append(
            Shown(name, case, {name: path for name, path in masks.items() if path}, rank < para.report_surfaces)
        )
    return shown


def picture_and_surfaces(shown, lower, upper, grid_tolerance):
    """JPEG bytes, and {mask name: packed surface, None of an empty mask}; {} if it gets none, or all are empty.

    lower, upper: HU; grid_tolerance: mm. Raises InputError if a file cannot be read, or if a mask lies on another grid than the CT.
    """
    volumes = read_case(shown.case, shown.masks, (lower, upper), grid_tolerance)
    picture = jpeg(draw_case(volumes, (lower, upper)))
    masks = volumes.masks
    if not shown.turns or not any(mask.any() for mask in masks.values()):
        return picture, {}
    return picture, {
        name: packed(*surface(mask, volumes.geometry)) if mask.any() else None for name, mask in masks.items()
    }


def curves(module_path, results):
    """(title, PNG bytes) of what can be drawn."""
    weights = Path(str(results['val.py'][1].get('weights', module_path)))
    csv = (weights if weights.is_dir() else weights.parent) / 'loss.csv'
    tables = {stage: table for stage, (table, _) in results.items()}
    drawn = []
    for title, figure, source in (
        ('Losses of the training', draw_loss_curve, csv if csv.is_file() else None),
        ('Dice and ASSD, before and after', draw_box_plots, tables),
        ('Volume beside the label (Bland-Altman)', draw_bland_altman, tables),
    ):
        if source is not None:
            try:
                drawn.append((title, encode_png(figure(source))))
            except InputError as why:
                log.info(one_line(f'not drawn: {title}: {why}'))
    return drawn


if __name__ == '__main__':
    run_script(main, __doc__)
