"""The README's table of systems, written from what a run left."""

import datetime
import json

from .config import REPOSITORY, Trouble

BEGIN, END = "<!-- matrix -->", "<!-- /matrix -->"


def row(facts, folder):
    """A system's line of the table."""
    totals = [json.loads((folder / f"{name}.json").read_text())["totals"] for name in facts["filesystems"]]
    passed, failed, skipped = (sum(total[what] for total in totals) for what in ("passed", "failed", "skipped"))
    cells = [facts["name"], facts["release"], facts["page_size"] // 1024, ", ".join(facts["filesystems"]), passed, failed, skipped,
             f"{facts['seconds']:.0f}"]
    return "| " + " | ".join(str(cell) for cell in cells) + " |"


def write(matrix, directory):
    """Puts the table in place of the one in the README; 0, as an exit status."""
    rows, newest = [], 0.0
    for system in matrix.systems:
        verdict = directory / system.name / "verdict.json"
        if verdict.exists():
            facts = json.loads(verdict.read_text())
            newest = max(newest, verdict.stat().st_mtime)
            if facts["filesystems"]:
                rows.append(row(facts, verdict.parent))
    if not rows:
        raise Trouble(f"{directory} holds no run of the matrix")
    date = datetime.date.fromtimestamp(newest)
    head = ["| system | kernel | KiB a page | file systems | passed | failed | skipped | seconds |",
            "|---|---|---|---|---|---|---|---|"]
    readme = REPOSITORY / "README.md"
    text = readme.read_text()
    if BEGIN not in text or END not in text:
        raise Trouble(f"README.md has no {BEGIN} and {END}")
    before, rest = text.split(BEGIN, 1)
    after = rest.split(END, 1)[1]
    lines = [BEGIN, f"Run on {date}; a claim counts once for each file system.", "", *head, *rows, END]
    readme.write_text(before + "\n".join(lines) + after)
    return 0
