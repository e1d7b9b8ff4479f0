"""Disks that run full: one line, nothing half-written; with room again the next run goes on and ends as an undisturbed one."""

import resource
import shutil
import subprocess

from tests.torture.kills import Truth, finish, stages, unfinished
from tests.torture.trial import HANG, Row


def mount(folder, size):
    """A disk of `size` bytes at a folder. False where that is not permitted."""
    folder.mkdir()
    kib = (size // 4096 + 1) * 4
    if subprocess.run(
        ['mount', '-t', 'tmpfs', '-o', f'size={kib}k', 'tmpfs', str(folder)], capture_output=True
    ).returncode:
        folder.rmdir()
        return False
    return True


def faults_of(stage, truth, folder, ended):
    """What is wrong with a run that met a full disk, and with what it left."""
    output = folder / stage.output
    if ended.fault() or ended.code != 1:
        return [ended.fault() or f'exit status {ended.code}']
    said = [line for line in ended.error if line.startswith('error: ')]
    if len(said) != 1 or stage.output not in said[0]:
        return [f'wanted one line that names the folder, got {said or ended.error}']
    if parts := [path.name for path in folder.rglob('.part-*')]:
        return [f'left behind: {parts}']
    half = unfinished(output, truth) if output.is_dir() else []
    return [f'not whole: {half}'] if half else []


def trial(row, stage, truth, folder, size, how):
    """One stage on a disk, or under a limit for a file, of `size` bytes. Nothing is counted if that was enough."""
    folder.mkdir(parents=True)
    output, limits = folder / stage.output, ()
    try:
        if how == 'disk' and not mount(output, size):
            return
        if how == 'file':
            limits = [(resource.RLIMIT_FSIZE, size)]
        ended = stage.start(folder, limits=limits).wait(HANG + 10 * truth.seconds)
        if ended.code == 0:
            return
        faults = faults_of(stage, truth, folder, ended)
        if how == 'disk':
            subprocess.run(['mount', '-o', 'remount,size=2g', str(output)], check=True)
        faults += [] if faults else finish(stage, truth, folder)
        row.tried += 1
        row.faults += [f'{stage.what}, {size} bytes: {fault}' for fault in faults]
    finally:
        if output.is_mount():
            subprocess.run(['umount', str(output)], check=True)
        shutil.rmtree(folder)


def part(base, folder, clock, short):
    """Rows for disks and for limits on the size of a file."""
    disk, file = Row('a full disk (tmpfs)', wanted=0), Row('a limit on the size of files', wanted=0)
    kinds = stages(base)
    for name in ('prepare',) if short else ('prepare', 'val', '3D CRF', '2D CRF', 'train'):
        stage, place = kinds[name], folder / name
        truth = Truth(stage, place)
        shares = (0.5,) if short else (0.01, 0.3, 0.6, 0.85) if name != 'train' else (0.1, 0.6)
        for share in shares:
            if clock.over():
                break
            disk.wanted, file.wanted = disk.wanted + 1, file.wanted + 1
            trial(disk, stage, truth, place, int(share * sum(truth.sizes)), 'disk')
            trial(file, stage, truth, place, int(share * max(truth.sizes)), 'file')
    if not disk.tried:
        disk.wanted, disk.remark = 0, 'not permitted here: nothing was mounted'
    return [disk, file]
