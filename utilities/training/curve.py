"""The curve of a training: the rows of loss.csv."""

LOSSES = ('loss1', 'loss2', 'loss3', 'loss4', 'total')
COLUMNS = ('epoch', 'step', *LOSSES, 'alpha', 'learning_rate', 'samples', 'validation_dice', 'gpu_mb', 'seconds')


def csv_row(row):
    """A row of loss.csv."""
    return ','.join(
        '' if value != value else f'{int(value)}' if name in ('epoch', 'step', 'samples') else f'{value:.6g}'
        for name, value in zip(COLUMNS, row)
    )
