"""Show finished cases in visdom: slices with the outlines of the masks, a table of metrics, the mean Dice so far."""

from pathlib import Path
from typing import Any

from utilities.viewing.case_figures import draw_case
from utilities.viewing.case_volumes import read_case
from utilities.viewing.visdom_client import VisdomClient, format_table, show_parameters
from utilities.volumes.cases import Case

METRICS = ('dice_before', 'dice', 'assd_before', 'assd', 'volume_ml')  # columns of the table; a case may lack some


class CasePanes:
    """Call `add` after each finished case and `close` at the end.

    Args:
        folder: folder of the results.
        server: address of the visdom server; '' shows nothing.
        port: its port.
        parameters: the effective parameters of the run.
    """

    def __init__(self, folder: Path, server: str, port: int, parameters: dict[str, Any]) -> None:
        self.window, self.grid_tolerance = (parameters['lower'], parameters['upper']), parameters['grid_tolerance']
        self.table_rows, self.dice = [], []
        self.client = VisdomClient(folder, server, port) if server else None
        if self.client:
            show_parameters(self.client, parameters)

    def add(self, case: Case, mask_paths: dict[str, Path], row: dict[str, Any]) -> None:
        """Show a case.

        Args:
            case: its CT and label.
            mask_paths: {name: path}, the names as in case_figures.COLOURS.
            row: its metrics, as utilities/evaluation/tables.py makes them.
        """
        if not self.client:
            return
        self.table_rows.append([case.name, *(f'{row[name]:.3f}' if name in row else '' for name in METRICS)])
        table = format_table(self.table_rows, ('case', *METRICS))
        self.client.show_text('metrics', table, title='metrics', width=560, height=380)
        if 'dice' in row:
            self.dice.append(row['dice'])
            self.client.add_point(
                'running_dice',
                len(self.dice),
                [row['dice'], sum(self.dice) / len(self.dice)],
                title='Dice',
                xlabel='case',
                legend=['case', 'mean so far'],
                width=420,
                height=380,
            )
        self.client.show_image(f'case-{case.name}', lambda: self.draw(case, mask_paths), case.name)

    def draw(self, case: Case, mask_paths: dict[str, Path]) -> Any:
        """Read a case and draw it; returns an image, uint8 (rows, columns, 3)."""
        return draw_case(read_case(case, mask_paths, self.window, self.grid_tolerance), self.window)

    def close(self) -> None:
        """Send the panes that the server does not have yet."""
        if self.client:
            self.client.close()
