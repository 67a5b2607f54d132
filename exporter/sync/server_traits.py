"""
What polls learn about a server: pure.

`ServerTraits` are kept in the ledger. `ServerFindings` are what one poll sees and the next one has to
confirm. They are lost with the process, which costs one more poll.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

# The documented default of `limit`.
SMALLEST_PAGE = 10
# A total may be some seconds late, so rows that are newer than this do not prove that it is too low.
LATE_TOTAL_MS = 60_000
# The server gives its time to the second, and clocks differ: a row stamped this near to a moment may have
# been created before it or after it.
CLOCK_BLUR_MS = 1_500


@dataclass(frozen=True, slots=True)
class ServerTraits:
    """
    What a target's polls have learnt about its server.

    Shape:
    `page_size`: the largest page it answers, where that is less than the configured one.
    `longest_page`: the longest first page it ever gave.
    `page_limit`: its own limit of rows per page, known once a first page was followed by more rows. A page of
    that length may be followed by another; a shorter one is the last.
    `surplus_in_flight`, `surplus_window`: the rows that its totals count and its pages never show, in the
    listing of jobs in flight and in any other.
    `difference`: the jobs that its total counts and the last full sync did not list. Another full sync would
    not list them either.
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

    def allowed_page(self, configured: int) -> int:
        """Give how many rows to ask for: the configured number, or less if the server answers less."""
        return min(configured, self.page_size or configured)

    def surplus(self, *, in_flight: bool) -> int:
        return self.surplus_in_flight if in_flight else self.surplus_window

    def with_surplus(self, rows: int, *, in_flight: bool) -> ServerTraits:
        return replace(self, **{"surplus_in_flight" if in_flight else "surplus_window": rows})

    def with_first_page(self, rows: int) -> ServerTraits:
        """Learn from a first page. One that is longer than the limit shows that the limit was wrong."""
        limit = None if self.page_limit is not None and rows > self.page_limit else self.page_limit
        return replace(self, longest_page=max(rows, self.longest_page), page_limit=limit)


@dataclass(frozen=True, slots=True)
class RowRange:
    """A number of rows that is known to be from `least` to `most`."""

    least: int
    most: int


@dataclass(slots=True)
class ServerFindings:
    """
    What one poll finds out about the server.

    Jobs that come and go can mislead a single poll. So totals that are too low or too high are believed only
    where two polls in a row find the same.

    Shape: `traits` as this poll leaves them, recorded or not; `total_is_low` if a listing showed more rows
    than its total, or came without a total; `surplus` the rows that a total counts and no page shows, by
    whether the listing was the one of jobs in flight; `total_was_low` and `surplus_before` are those of the
    poll before.
    """

    traits: ServerTraits = field(default_factory=ServerTraits)
    total_is_low: bool = False
    surplus: dict[bool, RowRange] = field(default_factory=dict)
    total_was_low: bool = False
    surplus_before: dict[bool, RowRange] = field(default_factory=dict)

    @classmethod
    def after(cls, before: ServerFindings | None, recorded: ServerTraits) -> ServerFindings:
        """Begin a poll. What the poll before learnt is newer than what the ledger has recorded."""
        if before is None:
            return cls(recorded)
        return cls(before.traits, total_was_low=before.total_is_low, surplus_before=before.surplus)

    def confirm_surplus(self, rows: RowRange, *, in_flight: bool) -> bool:
        """Note that a total counts more rows than its pages show; tell whether that is confirmed."""
        self.surplus[in_flight] = rows
        before = self.surplus_before.get(in_flight)
        if before is None or (most := min(rows.most, before.most)) < max(rows.least, before.least, 1):
            return False
        self.traits = self.traits.with_surplus(most, in_flight=in_flight)
        return True

    def lower_surplus(self, rows: int, *, in_flight: bool) -> None:
        """Note that a whole listing lacks only this many of the rows that its total counts."""
        if rows < self.traits.surplus(in_flight=in_flight):
            self.traits = self.traits.with_surplus(rows, in_flight=in_flight)


def smaller_page(limit: int) -> int | None:
    """Give the page size to try after one of `limit` rows was refused; None if that was the smallest."""
    return max(limit // 2, SMALLEST_PAGE) if limit > SMALLEST_PAGE else None
