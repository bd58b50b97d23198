"""The results of a benchmark: rows of a table, each with its rounds, its aim and whether the aim is met."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import median

from rich.table import Table


@dataclass(slots=True)
class BenchRow:
    """One measured figure, the yardstick that it is divided by, and the aim of the design.

    With a yardstick the value of a round is measured ÷ yardstick, without one it is what was measured, in `unit`.
    """

    name: str
    aim: float | None
    unit: str = "/s"
    # the aim is a ceiling, as for times and costs
    is_ceiling: bool = False
    measured: list[float] = field(default_factory=list)
    yardstick: list[float] = field(default_factory=list)

    def add(self, measured: float, yardstick: float | None = None) -> None:
        """A round's figures."""
        self.measured.append(measured)
        if yardstick is not None:
            self.yardstick.append(yardstick)

    @property
    def values(self) -> Sequence[float]:
        """One a round."""
        if not self.yardstick:
            return self.measured
        return [a / b for a, b in zip(self.measured, self.yardstick, strict=True)]

    @property
    def is_met(self) -> bool | None:
        """Whether the median reaches the aim; None without an aim."""
        if self.aim is None:
            return None
        middle = median(self.values)
        return middle <= self.aim if self.is_ceiling else middle >= self.aim

    def as_json(self) -> dict[str, object]:
        """All rounds, and what is made of them."""
        return {
            "name": self.name,
            "unit": self.unit if not self.yardstick else "ratio",
            "aim": self.aim,
            "aimIsCeiling": self.is_ceiling,
            "isMet": self.is_met,
            "median": median(self.values),
            "measured": self.measured,
            "measuredUnit": self.unit,
            "yardstick": self.yardstick,
        }


def table(rows: Sequence[BenchRow]) -> Table:
    """Return the table that is printed and stored; rows that were not measured are left out."""
    shown = Table(title="medians (lowest to highest round)")
    for name in ("what", "value", "spread", "aim", "measured", "yardstick"):
        shown.add_column(name, justify="left" if name == "what" else "right")
    for row in rows:
        if not row.measured:
            continue
        unit = "" if row.yardstick else row.unit
        sign = "≤" if row.is_ceiling else "≥"
        shown.add_row(
            row.name,
            f"{_short(median(row.values))}{unit}",
            f"{_short(min(row.values))} to {_short(max(row.values))}" if len(row.values) > 1 else "",
            "" if row.aim is None else f"{sign} {_short(row.aim)}{unit}",
            f"{_short(median(row.measured))}{row.unit}" if row.yardstick else "",
            f"{_short(median(row.yardstick))}{row.unit}" if row.yardstick else "",
        )
    return shown


def _short(number: float) -> str:
    if number >= 1000:
        return f"{number:,.0f}"
    return f"{number:.2f}" if number < 10 else f"{number:.1f}"
