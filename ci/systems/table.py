"""The README's table of systems, written from what a run left."""

import datetime

from .config import REPOSITORY, Trouble
from .result import Result

BEGIN, END = "<!-- matrix -->", "<!-- /matrix -->"


def row(result):
    """A system's line of the table."""
    counts = [result.count(what) for what in ("passed", "failed", "known", "skipped")]
    boot = f"{100 * result.boot / result.seconds:.0f} %" if result.boot else ""
    cases = next(iter(result.reports.values()))["cases"]
    cells = [result.system.name, result.release, result.page // 1024, ", ".join(result.reports), cases, *counts,
             f"{result.seconds:.0f}", f"{result.worked:.0f}" if result.worked else "", boot]
    return "| " + " | ".join(str(cell) for cell in cells) + " |"


def write(matrix, directory):
    """Puts the table in place of the one in the README; 0, as an exit status."""
    found = [result for system in matrix.systems if (result := Result.load(system, directory)) and result.reports]
    rows = [row(result) for result in found]
    if not rows:
        raise Trouble(f"{directory} holds no run of the matrix")
    date = datetime.date.fromtimestamp(max((result.folder / "verdict.json").stat().st_mtime for result in found))
    head = ["| system | kernel | KiB a page | file systems | cases | passed | failed | known | skipped | seconds | of a processor | boot |",
            "|---|---|--:|---|--:|--:|--:|--:|--:|--:|--:|--:|"]
    readme = REPOSITORY / "README.md"
    text = readme.read_text()
    if BEGIN not in text or END not in text:
        raise Trouble(f"README.md has no {BEGIN} and {END}")
    before, rest = text.split(BEGIN, 1)
    after = rest.split(END, 1)[1]
    said = (f"Run on {date}, two side by side; a claim counts once for each file system. Beside the seconds that passed are those of a "
            "processor, and the share of them all that the boot took.")
    lines = [BEGIN, said, "", *head, *rows, END]
    readme.write_text(before + "\n".join(lines) + after)
    return 0
