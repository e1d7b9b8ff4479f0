"""Make rows of the benchmark's table from what was measured.

A row is a dict: stage (its name), ours_s, ours_mb, goal (text, '' for none), reached (bool), agreement (remarks), and
plain_s, plain_mb where there is a plain way to compare with. Further keys keep figures for estimates.
"""


def row_without_plain_way(seconds: float, megabytes: float, remark: str) -> dict:
    """Return the row of something that has neither a plain way to compare with nor a goal."""
    return {'ours_s': seconds, 'ours_mb': megabytes, 'goal': '', 'reached': True, 'agreement': remark}


def row_of_script(script: str, one: tuple[float, float], several: tuple[float, float], cases: int) -> dict:
    """Return the row of a script, with the seconds that it takes to start and the seconds that each case adds.

    Args:
        script: its name.
        one: (seconds, MB) of a run over one case.
        several: the same over `cases` cases.
        cases: their number, 2 or more.
    """
    case_s = max(0, several[0] - one[0]) / (cases - 1)
    start_s = one[0] - case_s
    return {
        'stage': f'{script}, {cases} cases of 448 x 512 x 512',
        'start_s': start_s,
        'case_s': case_s,
        **row_without_plain_way(*several, f'{start_s:.2g} s to start, {case_s:.2g} s a case'),
    }


def row_of_peak_memory(
    seconds: float, megabytes: dict[int, float], bytes_per_voxel: float, worker_bytes: float
) -> dict:
    """Return the row of a stage's peak memory, compared with what run_cases.py reserves for a worker.

    Args:
        seconds: of the largest case.
        megabytes: peak by the number of voxels of the CT, for two sizes.
        bytes_per_voxel: what run_cases.py reserves for each voxel of a CT.
        worker_bytes: what it reserves for a worker without a case.
    """
    small, large = sorted(megabytes)
    slope = (megabytes[large] - megabytes[small]) * 1e6 / (large - small)
    remark = (
        f'{megabytes[small]:.0f} MB with {small / 1e6:.0f} M voxels, '
        f'{megabytes[large]:.0f} MB with {large / 1e6:.0f} M: {slope:.1f} bytes a voxel'
    )
    return {
        **row_without_plain_way(seconds, megabytes[large], remark),
        'goal': f'at most {bytes_per_voxel:g} bytes a voxel and {worker_bytes / 1e6:.0f} MB',
        'reached': all(1e6 * peak <= worker_bytes + bytes_per_voxel * voxels for voxels, peak in megabytes.items()),
    }


def row_of_throughput(stage: str, runs: dict[str, tuple[float, float]], uses_all_cores: bool) -> dict:
    """Return the row that compares a script on two processes with the same script on one.

    Args:
        stage: name of the row.
        runs: (seconds, MB) of the runs 'one core', '1' process and '2' processes.
        uses_all_cores: whether one process already uses all cores; then no gain is expected of a second one.
    """
    (core_s, _), (one_s, one_mb), (two_s, two_mb) = runs['one core'], runs['1'], runs['2']
    plain = 'one process, which takes all cores' if uses_all_cores else 'one process'
    return {
        'stage': stage,
        'plain_s': one_s,
        'ours_s': two_s,
        'plain_mb': one_mb,
        'ours_mb': two_mb,
        'goal': '' if uses_all_cores else '>= 1.7 x',
        'reached': uses_all_cores or one_s / two_s >= 1.7,
        'agreement': f'plain: {plain}; ours: two; {core_s / two_s:.2f} x one process on one core',
    }


def row_of_one_core(script: str, seconds: dict[int, float], megabytes: float) -> dict:
    """Return the row of a script on one core, with the seconds that each slice adds and those of a case besides.

    Args:
        script: its name.
        seconds: of a case by its number of slices, for two cases.
        megabytes: peak memory of the process.
    """
    few, many = sorted(seconds)
    slice_s = (seconds[many] - seconds[few]) / (many - few)
    case_s = max(0, seconds[few] - few * slice_s)
    return {
        'stage': f'{script}, a case of {many} x 512 x 512 on one core',
        'case_s': case_s,
        'slice_s': slice_s,
        **row_without_plain_way(seconds[many], megabytes, f'{case_s:.2g} s and {1e3 * slice_s:.2g} ms a slice'),
    }
