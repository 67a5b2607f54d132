"""
What was found out about a server: pure.

`ServerTraits` are kept in the ledger. `Findings` are what one poll saw and the next one has to confirm; they
are lost with the process, which costs one poll.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

# The documented default of `limit`.
SMALLEST_PAGE = 10
# A total may be some seconds late, so rows that are newer than this do not speak against it.
LATE_TOTAL_MS = 60_000
# The server names its time to the second, and clocks differ: a row stamped so near to a moment may have come
# before it or after it.
CLOCK_BLUR_MS = 1_500


@dataclass(frozen=True, slots=True)
class ServerTraits:
    """
    What a target's polls have learnt of its server.

    Shape:
    `page_size`: the largest page it answers, where that is less than the configured one.
    `longest_page`: the longest first page it ever gave.
    `page_limit`: its own limit of rows per page, known once a first page was followed by more rows. No page
    of that length is the last, and a shorter one is.
    `surplus_in_flight`, `surplus_window`: the rows that its totals count and its pages never show, in the
    listing of jobs in flight and in any other.
    `difference`: the jobs that its total counts and the last full sync did not list. Another one would not
    change that.
    """

    page_size: int | None = None
    longest_page: int = 0
    page_limit: int | None = None
    surplus_in_flight: int = 0
    surplus_window: int = 0
    difference: int = 0

    @property
    def unlisted_jobs(self) -> int:
        """How many jobs its totals count and its pages never show, as far as polls have found out."""
        return max(self.surplus_in_flight, self.surplus_window, self.difference, 0)

    def surplus(self, *, in_flight: bool) -> int:
        return self.surplus_in_flight if in_flight else self.surplus_window

    def with_surplus(self, rows: int, *, in_flight: bool) -> ServerTraits:
        return replace(self, **{"surplus_in_flight" if in_flight else "surplus_window": rows})

    def with_first_page(self, rows: int) -> ServerTraits:
        """Learn from a first page; one that is longer than the limit shows that the limit was none."""
        limit = None if self.page_limit is not None and rows > self.page_limit else self.page_limit
        return replace(self, longest_page=max(rows, self.longest_page), page_limit=limit)

    def with_limit(self, rows: int) -> ServerTraits:
        """Learn that a first page of so many rows was followed by more."""
        return self if self.page_limit == rows else replace(self, page_limit=rows)


@dataclass(frozen=True, slots=True)
class RowRange:
    """A number of rows that is known from `least` to `most`."""

    least: int
    most: int

    def common(self, other: RowRange) -> RowRange | None:
        """Give what both allow; None where they contradict each other."""
        both = RowRange(max(self.least, other.least), min(self.most, other.most))
        return both if both.least <= both.most else None


@dataclass(slots=True)
class ServerFindings:
    """
    What one poll has seen and the next one has to confirm.

    Shape: `total_is_low` if a listing showed more rows than its totals, or came without a total; `surplus` by
    whether the listing was the one of jobs in flight; `traits` as this poll left them, recorded or not.
    """

    total_is_low: bool = False
    surplus: dict[bool, RowRange] = field(default_factory=dict)
    traits: ServerTraits | None = None


def smaller_page(limit: int) -> int | None:
    """Give the page to ask for where one of `limit` rows was refused; None where none is worth a try."""
    return max(limit // 2, SMALLEST_PAGE) if limit > SMALLEST_PAGE else None
