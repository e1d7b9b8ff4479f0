"""Run on disks that become full: one line, nothing half-written; with room again the next run completes the work."""

import resource
import shutil
import subprocess
from pathlib import Path

from tests.torture.kills import Stage, Truth, finish, list_parts, stages, unfinished
from tests.torture.trial import HANG, Clock, Ended, Row

SHARES = 0.01, 0.3, 0.6, 0.85  # of the bytes that an undisturbed run writes
TRAINING_SHARES = 0.1, 0.6


def mount(folder: Path, size: int) -> bool:
    """Mount a disk of `size` bytes at a new folder; return False where that is not permitted."""
    folder.mkdir()
    kib = (size // 4096 + 1) * 4
    command = ['mount', '-t', 'tmpfs', '-o', f'size={kib}k', 'tmpfs', str(folder)]
    if subprocess.run(command, capture_output=True).returncode:
        folder.rmdir()
        return False
    return True


def find_faults(stage: Stage, truth: Truth, folder: Path, ended: Ended) -> list[str]:
    """Return what is wrong with a run that met a full disk, and with what it left."""
    output = folder / stage.output
    if ended.fault() or ended.code != 1:
        return [ended.fault() or f'exit status {ended.code}']
    lines = [line for line in ended.error if line.startswith('error: ')]
    if len(lines) != 1 or stage.output not in lines[0]:
        return [f'wanted one line that names the folder, got {lines or ended.error}']
    if parts := list_parts(folder):
        return [f'left behind: {parts}']
    half_written = unfinished(output, truth) if output.is_dir() else []
    return [f'not whole: {half_written}'] if half_written else []


def run_on_full_disk(row: Row, stage: Stage, truth: Truth, folder: Path, size: int) -> None:
    """Run a stage on a disk of `size` bytes; where mounting is not permitted, nothing is tried."""
    folder.mkdir(parents=True)
    output = folder / stage.output
    try:
        if mount(output, size):
            ended = stage.start(folder).wait(HANG + 10 * truth.seconds)
            if ended.code == 0:
                return  # the disk was large enough
            faults = find_faults(stage, truth, folder, ended)
            subprocess.run(['mount', '-o', 'remount,size=2g', str(output)], check=True)
            add_trial(row, stage, size, faults or finish(stage, truth, folder))
    finally:
        if output.is_mount():
            subprocess.run(['umount', str(output)], check=True)
        shutil.rmtree(folder)


def run_with_file_limit(row: Row, stage: Stage, truth: Truth, folder: Path, size: int) -> None:
    """Run a stage in which no file may have more than `size` bytes."""
    folder.mkdir(parents=True)
    limits = [(resource.RLIMIT_FSIZE, size)]
    ended = stage.start(folder, limits=limits).wait(HANG + 10 * truth.seconds)
    if ended.code:  # otherwise the limit was large enough
        faults = find_faults(stage, truth, folder, ended)
        add_trial(row, stage, size, faults or finish(stage, truth, folder))
    shutil.rmtree(folder)


def add_trial(row: Row, stage: Stage, size: int, faults: list[str]) -> None:
    row.tried += 1
    row.faults += [f'{stage.what}, {size} bytes: {fault}' for fault in faults]


def part(base: Path, folder: Path, clock: Clock, short: bool) -> list[Row]:
    """Return the rows for disks and for limits on the size of a file."""
    disk, file = Row('a full disk (tmpfs)', wanted=0), Row('a limit on the size of files', wanted=0)
    kinds = stages(base)
    for name in ('prepare',) if short else ('prepare', 'val', '3D CRF', '2D CRF', 'train'):
        stage, run_folder = kinds[name], folder / name
        truth = Truth(stage, run_folder)
        shares = TRAINING_SHARES if name == 'train' else SHARES
        for share in (0.5,) if short else shares:
            if clock.over():
                break
            disk.wanted += 1
            file.wanted += 1
            run_on_full_disk(disk, stage, truth, run_folder, int(share * sum(truth.sizes)))
            run_with_file_limit(file, stage, truth, run_folder, int(share * max(truth.sizes)))
    if not disk.tried:
        disk.wanted, disk.remark = 0, 'not permitted here: nothing was mounted'
    return [disk, file]
