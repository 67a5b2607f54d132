"""The script that loads the files, and has the rules' own history made. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from exporter.backfill.plan import BackfillOptions, BackfillPlan, WrittenDay


def loading_files(
    options: BackfillOptions, plan: BackfillPlan, days: Sequence[WrittenDay]
) -> Mapping[str, str]:
    """
    Give what is written beside the days, by name: the script, and what it reads.

    Shape: names that end in `.sh` become executable. Called after all days are written.
    """
    raise NotImplementedError
