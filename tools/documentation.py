"""The tables in README.md and docs/ that other files determine."""

from pathlib import Path

from utilities.base.atomic_write import atomic_write

ROOT = Path(__file__).resolve().parents[1]


def documentation_pages(root: Path = ROOT) -> list[Path]:
    """Return README.md, CONTRIBUTING.md, CHANGELOG.md and the pages of docs/ that exist below `root`."""
    pages = [root / name for name in ('README.md', 'CONTRIBUTING.md', 'CHANGELOG.md')]
    return [page for page in pages if page.is_file()] + sorted((root / 'docs').glob('*.md'))


def replace_table(mark: str, text: str, root: Path = ROOT) -> Path:
    """Replace the text between <!-- mark --> and <!-- end of mark --> on the page that has these marks.

    Returns the page. Raises ValueError if not exactly one page has the mark.
    """
    start, end = f'<!-- {mark} -->', f'<!-- end of {mark} -->'
    pages = [page for page in documentation_pages(root) if start in page.read_text()]
    if len(pages) != 1:
        raise ValueError(f'{start}: wanted it on one page of the documentation, found it on {len(pages)}')
    before, rest = pages[0].read_text().split(start)
    with atomic_write(pages[0]) as temporary_path:
        temporary_path.write_text(f'{before}{start}\n\n{text}\n\n{end}{rest.split(end)[1]}')
    return pages[0]
