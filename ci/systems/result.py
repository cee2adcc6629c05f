"""What came of one system, in memory and in its folder."""

import json
from pathlib import Path

NOTED = ("release", "machine", "page", "exits", "wrong", "seconds", "worked", "boot", "skipped")


class Result:
    """What came of a system."""

    def __init__(self, system, folder):
        self.system, self.folder = system, folder
        self.release, self.machine, self.page = "", "", 0
        self.reports, self.exits, self.wrong = {}, {}, []
        self.seconds, self.worked, self.boot, self.skipped = 0.0, 0.0, None, ""

    @property
    def verdict(self):
        """pass, fail (a claim), broken (the system itself) or skipped."""
        if self.skipped:
            return "skipped"
        if self.wrong:
            return "broken"
        if any(self.failing(report) for report in self.reports.values()):
            return "fail"
        return "pass"

    @staticmethod
    def failing(report):
        """The claims of a report that failed, or that are listed as failing and passed. What snapshots show is for review."""
        return [claim["id"] for claim in report["claims"] if claim["result"] in ("fail", "stale")]

    def differing(self):
        """The reviewed snapshots that this system does not give."""
        all_of_them = (one for report in self.reports.values() for one in report["snapshots"] or ())
        return [one["name"] for one in all_of_them if one["result"] in ("differs", "lost")]

    def count(self, what):
        return sum(report["totals"].get(what, 0) for report in self.reports.values())

    def save(self):
        """Leaves all but the reports, which are there, in the folder."""
        facts = {"verdict": self.verdict} | {name: getattr(self, name) for name in NOTED}
        (self.folder / "verdict.json").write_text(json.dumps(facts, indent=1) + "\n")

    @classmethod
    def load(cls, system, output):
        """The result that a run left; None if it left none."""
        result = cls(system, Path(output) / system.name)
        noted = result.folder / "verdict.json"
        if not noted.exists():
            return None
        for name, value in json.loads(noted.read_text()).items():
            if name in NOTED:
                setattr(result, name, value)
        for name in system.filesystems:
            report = result.folder / f"{name}.json"
            if report.exists():
                result.reports[name] = json.loads(report.read_text())
        return result
