"""What a run of the matrix says: a line a system, the differences, what nothing was put to."""

import subprocess

SYMBOLS = {"pass": "pass", "fail": "FAIL", "broken": "BROKEN", "skipped": "SKIPPED"}


def heading():
    return f"{'system':18} {'release':28} {'page':>5}  {'result':8} {'passed':>6} {'failed':>6} {'known':>6} {'skipped':>7} {'seconds':>7} {'worked':>6}  boot"


def line(result):
    """A system in a line; under it, what is wrong."""
    share = f"{100 * result.boot / result.seconds:3.0f} %" if result.boot and result.seconds else ""
    text = (f"{result.system.name:18} {result.release[:28]:28} {result.page or '':>5}  {SYMBOLS[result.verdict]:8} "
            f"{result.count('passed'):>6} {result.count('failed'):>6} {result.count('known'):>6} {result.count('skipped'):>7} {result.seconds:>7.1f} {result.worked:>6.0f}  {share}")
    notes = [result.skipped] if result.skipped else list(result.wrong)
    for name, report in result.reports.items():
        failed = result.failing(report)
        if failed:
            notes.append(f"{name}: {', '.join(failed)}")
    if result.differing():
        notes.append(f"snapshots to review: {', '.join(result.differing())}")
    return "\n".join([text.rstrip(), *(f"    {note}" for note in notes)])


def never_put(results):
    """The claims that no system put to its kernel, though something about them can be observed."""
    seen, put = set(), set()
    for result in results:
        for report in result.reports.values():
            for claim in report["claims"]:
                if claim["result"] != "unobservable":
                    seen.add(claim["id"])
                    if claim["result"] != "skip":
                        put.add(claim["id"])
    return sorted(seen - put)


def differences(results, program):
    """What `compare` says of the systems that are Linux, each on its first file system: there all claims are put to it."""
    linux = [result for result in results if result.system.linux and result.reports]
    files = [result.folder / f"{next(iter(result.reports))}.json" for result in linux]
    if len(files) < 2 or not program:
        return ""
    done = subprocess.run([program, "compare", *files], text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, check=False)
    return done.stdout if done.returncode in (0, 1) else done.stderr


def say_all(results, program, output, complete):
    """The end of a run: what differs, what no system was asked, the count."""
    text = differences(results, program)
    if text:
        (output / "differences.txt").write_text(text)
        print(f"\n{text.rstrip()}")
    idle = never_put(results)
    if idle:
        said = "no system of the matrix was asked" if complete else "none of these systems was asked"
        print(f"\n{said}: {', '.join(idle)}")
    counts = {verdict: sum(result.verdict == verdict for result in results) for verdict in SYMBOLS}
    print(f"\n{len(results)} systems: " + ", ".join(f"{count} {SYMBOLS[verdict]}" for verdict, count in counts.items() if count))
    print(f"reports, new snapshots and consoles: {output}")


def status(results, complete):
    """0 nothing failed, 1 something did, 2 not all could be run."""
    if any(result.verdict in ("fail", "broken") for result in results) or (complete and never_put(results)):
        return 1
    return 2 if any(result.verdict == "skipped" for result in results) else 0
