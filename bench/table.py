"""The figures of a run: kept as they come, printed, written as JSON, and as tables for the README."""

from __future__ import annotations

import json
import platform
import statistics
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import psutil

BEGIN, END = "<!-- numbers: begin -->", "<!-- numbers: end -->"
LEAST = "least"


@dataclass(frozen=True)
class Bar:
    """What a figure must reach: at most that, or at least."""

    limit: float
    least: bool = False

    def reached(self, value: float | None) -> bool:
        """Tell whether a figure reaches it; one that could not be taken does not."""
        return value is not None and (value >= self.limit if self.least else value <= self.limit)

    def __str__(self) -> str:
        """Write it as people do."""
        return f"{'≥' if self.least else '≤'} {number(self.limit)}"


@dataclass
class Row:
    """One line of a table: figures by column, and the bars of some."""

    what: str
    values: dict[str, float | None]
    bars: dict[str, Bar] = field(default_factory=dict)

    def missed(self) -> list[str]:
        """Return the columns that do not reach their bar."""
        return [column for column, bar in self.bars.items() if not bar.reached(self.values.get(column))]

    def cell(self, column: str) -> str:
        """Write one figure, with its bar where it has one."""
        value = self.values.get(column)
        text = "" if column not in self.values else "fails" if value is None else number(value)
        bar = self.bars.get(column)
        return text if bar is None else f"{text} ({bar}{'' if bar.reached(value) else ', missed'})"


@dataclass
class Section:
    """Rows with the same columns."""

    title: str
    columns: list[str]
    rows: list[Row] = field(default_factory=list)

    def markdown(self) -> str:
        """Render a table."""
        lines = [f"| {self.title} | {' | '.join(self.columns)} |", "|---|" + "---|" * len(self.columns)]
        lines += [f"| {row.what} | {' | '.join(map(row.cell, self.columns))} |" for row in self.rows]
        return "\n".join(lines)


class Table:
    """All sections of a run."""

    def __init__(self) -> None:
        """Start empty."""
        self.sections: list[Section] = []

    def section(self, title: str, *columns: str) -> None:
        """Begin a section."""
        self.sections.append(Section(title, list(columns)))
        print(f"\n{title}  [{' | '.join(columns)}]", flush=True)

    def row(self, what: str, values: Mapping[str, float | None], **bars: Bar) -> None:
        """Keep and print one line; a bar is named by its column, with `_` for a blank."""
        section = self.sections[-1]
        named = {column: bars[key] for column in section.columns if (key := _key(column)) in bars}
        assert len(named) == len(bars), f"bars of no column: {bars}"
        row = Row(what, dict(values), named)
        section.rows.append(row)
        print(f"  {what:52} " + "  ".join(f"{row.cell(column):>12}" for column in section.columns), flush=True)

    def missed(self) -> list[str]:
        """Return what did not reach its bar."""
        return [
            f"{section.title}, {row.what}: {column} {row.cell(column)}"
            for section in self.sections
            for row in section.rows
            for column in row.missed()
        ]

    def as_json(self) -> str:
        """Return the run as JSON."""
        body = {"machine": machine(), "date": today(), "sections": [asdict(section) for section in self.sections]}
        return json.dumps(body, indent=1, ensure_ascii=False) + "\n"

    def markdown(self) -> str:
        """Return the run as tables, the machine named first."""
        return f"{today()}, {machine()}.\n\n" + "\n\n".join(section.markdown() for section in self.sections) + "\n"

    def write_into(self, readme: Path) -> None:
        """Put the tables between the markers of a document."""
        text = readme.read_text("utf-8")
        head, begin, rest = text.partition(BEGIN)
        _, end, tail = rest.partition(END)
        assert begin, f"no markers in {readme}"
        assert end, f"no markers in {readme}"
        readme.write_text(f"{head}{BEGIN}\n{self.markdown()}{END}{tail}", "utf-8")


def _key(column: str) -> str:
    return "".join(char if char.isalnum() else "_" for char in column).strip("_").lower()


def number(value: float) -> str:
    """Return a figure with the digits that count."""
    size = abs(value)
    if size >= 1000:
        return f"{value:,.0f}".replace(",", " ")
    digits = 0 if size >= 100 or value == int(value) else 1 if size >= 10 else 2 if size >= 0.1 else 3
    return f"{value:.{digits}f}"


def today() -> str:
    """Return the date of the run."""
    return datetime.now(UTC).strftime("%Y-%m-%d")


def machine() -> str:
    """Name the machine: the processor, its cores, the memory, the system, the interpreter."""
    model = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.is_file():
        names = [
            line.partition(":")[2].strip() for line in info.read_text("utf-8").splitlines() if "model name" in line
        ]
        model = names[0] if names else model
    gib = psutil.virtual_memory().total / (1 << 30)
    python = ".".join(map(str, sys.version_info[:3]))
    system = f"{platform.system()} {platform.release().partition('-')[0]}"
    return f"{psutil.cpu_count()} cores of {model}, {gib:.0f} GiB, {system}, Python {python}"


def median(values: Iterable[float]) -> float:
    """Return the median."""
    return statistics.median(values)


def repeated(count: int, measure: Callable[[], float]) -> float:
    """Return the median of repeated measurements."""
    return median(measure() for _ in range(count))
