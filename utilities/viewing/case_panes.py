"""Cases in visdom as they get ready: slices with outlines, a table of metrics, the running Dice."""

from utilities.viewing.case_figures import case_picture
from utilities.viewing.visdom_client import Board, show_parameters, table
from utilities.volumes.geometry import patient_view
from utilities.volumes.read_write import read_ct, read_label

SHOWN = ('dice_before', 'dice', 'assd_before', 'assd', 'volume_ml')  # metrics in the table, those the case has


class CaseBoard:
    """add(case, masks, row) for each finished case; `close` at the end. Without a server it costs nothing and says nothing.

    parameters: the effective ones, a dict. masks: {'prediction': path, 'CRF': path}; row: of utilities/evaluation/tables.py.
    """

    def __init__(self, folder, server, port, parameters):
        self.window, self.rows, self.dice = (parameters['lower'], parameters['upper']), [], []
        self.board = Board(folder, server, port) if server else None
        if self.board:
            show_parameters(self.board, parameters)

    def add(self, case, masks, row):
        if not self.board:
            return
        self.rows.append([case.name, *(f'{row[name]:.3f}' if name in row else '' for name in SHOWN)])
        self.board.text('metrics', table(self.rows, ('case', *SHOWN)), title='metrics', width=560, height=380)
        if 'dice' in row:
            self.dice.append(row['dice'])
            self.board.line(
                'running_dice',
                len(self.dice),
                [row['dice'], sum(self.dice) / len(self.dice)],
                title='Dice',
                xlabel='case',
                legend=['case', 'mean so far'],
                width=420,
                height=380,
            )
        paths = {'label': case.label, **masks}

        def draw():
            ct, geometry = read_ct(case.ct, *self.window, case.spacing)
            shown = {name: patient_view(*read_label(path, case.spacing)) for name, path in paths.items() if path}
            return case_picture(case.name, patient_view(ct, geometry), shown, geometry.spacing, self.window)

        self.board.picture(f'case-{case.name}', draw, case.name)

    def close(self):
        if self.board:
            self.board.close()
