"""What a guest said on its console, and whether it can be believed."""

import base64
import binascii
import re
import zlib
from dataclasses import dataclass, field

# What the kernel says when it is at its end, or has gone wrong in a way that it noticed.
ALARMS = re.compile(r"Kernel panic|Oops|BUG: |general protection fault|Unable to handle kernel|double fault|soft lockup|"
                    r"hung_task|rcu_(?:sched|preempt).*stall|Call Trace:|end Kernel panic")


@dataclass
class Transcript:
    """The guest's own lines, by kind."""

    release: str = ""
    machine: str = ""
    page: int = 0
    exits: dict = field(default_factory=dict)
    files: dict = field(default_factory=dict)
    closing: list = field(default_factory=list)
    troubles: list = field(default_factory=list)
    wrong: list = field(default_factory=list)  # reasons not to believe it
    alarm: str = ""


def read(text):
    """The console, taken apart."""
    seen, name, size, parts = Transcript(), None, 0, []
    for line in re.split(r"[\r\n]+", text):
        alarm = ALARMS.search(line)
        if alarm and not seen.alarm:
            seen.alarm = line.strip()
        if not line.startswith("::"):
            continue
        kind, _, rest = line[2:].partition(" ")
        words = rest.split()
        try:
            if kind == "begin":
                if seen.release:
                    seen.wrong.append("it began twice")
                seen.release, seen.machine, seen.page = words[0], words[1], int(words[2])
            elif kind == "exit":
                if words[0] in seen.exits:
                    seen.wrong.append(f"two exit statuses for {words[0]}")
                seen.exits[words[0]] = int(words[1])
            elif kind == "trouble":
                seen.troubles.append(rest)
            elif kind == "file":
                name, size, parts = words[0], int(words[1]), []
            elif kind == "=":
                parts.append(base64.b64decode(rest, validate=True))
            elif kind == "sum":
                content = b"".join(parts)
                if len(content) != size or zlib.crc32(content) != int(words[0]):
                    seen.wrong.append(f"{name} came out damaged")
                seen.files[name] = content
            elif kind == "end":
                seen.closing.append(int(words[0]))
            else:
                raise ValueError(line)
        except (ValueError, IndexError, binascii.Error):
            seen.wrong.append(f"a line that means nothing: {line[:60]}")
    _check_closing(seen)
    return seen


def _check_closing(seen):
    if len(seen.closing) > 1:
        seen.wrong.append("two closing lines")
    if seen.closing:
        due = max([0, *seen.exits.values(), *([2] if seen.troubles else [])])
        if seen.closing[0] != due:
            seen.wrong.append(f"its closing line says {seen.closing[0]}, its lines before come to {due}")
