"""The dense CRF over a volume, beside pydensecrf."""

from pathlib import Path

from benchmarks.crf_engines import compare_engines, count_differences_from_exact, make_box

STAGE = 'dense_crf 3D, 20 iterations'


def measure(folder: Path, repeats: int) -> dict:
    ct, mask = make_box()
    row, overlap = compare_engines(ct, mask, 3, goal=15, min_equal=0.9995, plain_repeats=max(1, repeats - 2))
    different, voxels = count_differences_from_exact(ct, mask)
    return {
        **row,
        'goal': '>= 15 x, 1/8 of the memory, Dice >= 0.9995',
        'reached': row['reached'] and row['plain_mb'] / row['ours_mb'] >= 8 and overlap >= 0.9995,
        'agreement': f'{row["agreement"]}; off the exact mean field in {voxels:,} voxels of small boxes: '
        f'{different["grid"]}, pydensecrf {different["pydensecrf"]}',
    }
