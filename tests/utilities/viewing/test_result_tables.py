"""Tables of val.py and the CRF: damaged files are named with the command that writes them; the CRF has a name."""

import json

import pandas
import pytest

from tests.utilities.viewing.finished_run import finished_run
from utilities.base.errors import InputError
from utilities.viewing.result_tables import name_crf, read_result, sort_worst_first

TABLE, SUMMARY = 'pred/result.csv', 'pred/summary.json'
CRF_TABLE, CRF_SUMMARY = 'crf/result-post-processing.csv', 'crf/summary-post-processing.json'


@pytest.mark.parametrize(
    'name, content',
    [
        (TABLE, None),
        (TABLE, ''),
        (TABLE, 'name,dice\na,1\n'),
        (TABLE, 'case,dice,assd\na.nii,good,1\n'),
        (TABLE, 'case,dice\na.nii,1\n'),
        (TABLE, 'case,volume_ml\na.nii,1\na.nii,1\n'),
        (TABLE, '\udcff'),
        (SUMMARY, None),
        (SUMMARY, '{"failed"'),
        (SUMMARY, '[]'),
        (SUMMARY, '{"failed": []}'),
        (CRF_SUMMARY, '['),
        (CRF_TABLE, 'case\n"'),
    ],
)
def test_an_error_names_the_damaged_file_and_the_command_that_writes_it(tmp_path, name, content):
    finished_run(tmp_path)
    path = tmp_path / name
    if content is None:
        path.unlink()
    else:
        path.write_bytes(content.encode('utf-8', 'surrogateescape'))
    table_name = 'result-post-processing' if name.startswith('crf') else 'result'
    with pytest.raises(InputError, match='run python val.py') as caught:
        read_result(path.parent, table_name, 'pred_path', 'python val.py')
    assert str(path) in str(caught.value)


def test_the_worst_case_stands_first_and_cases_without_dice_at_the_end():
    table = pandas.DataFrame({'dice': [0.9, None, 0.1, 0.5]}, index=['a', 'b', 'c', 'd'])
    assert sort_worst_first(table) == ['c', 'd', 'a', 'b']
    assert sort_worst_first(table[[]]) == ['a', 'b', 'c', 'd']


@pytest.mark.parametrize('dimensions, name', [([], 'CRF'), ([2], '2D CRF'), ([3, 3], '3D CRF'), ([2, 3], 'CRF')])
def test_the_crf_is_named_by_its_records(tmp_path, dimensions, name):
    (tmp_path / 'manifest').mkdir()
    for number, value in enumerate(dimensions):
        record = {'settings': {'dimensions': value}, 'inputs': [], 'files': {}, 'row': None}
        (tmp_path / f'manifest/crf-{number}.json').write_text(json.dumps(record))
    assert name_crf(tmp_path) == name
