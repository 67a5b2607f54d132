"""
Passwords and keys that were refused, or are tried now: so that replicas together lock no account.

A row is there while a secret is tried, and while it cools down. One that nobody needs any more is deleted by
the next attempt.
"""

from __future__ import annotations

import msgspec

from exporter.ledger.database import Database
from exporter.model import SecretRefusal, SecretUse

# An attempt takes no longer; a process that dies in between keeps the others waiting for so long.
_ATTEMPT = "INTERVAL '30 seconds'"
# What lasts longer than any attempt and any cool-down was written before the clock was set back.
_LONGEST = "INTERVAL '15 minutes'"
_IS_TRIED = f"(refusals.tried_until > now() AND refusals.tried_until < now() + {_LONGEST})"
_IS_REFUSED = f"(refusals.refused_until > now() AND refusals.refused_until < now() + {_LONGEST})"

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(SecretRefusal).decode


def try_secret(db: Database, replica: str, fingerprint: str) -> SecretUse:
    """See sync.shared_ledger.SharedLedger."""
    db.execute(
        f"""
        DELETE FROM refusals WHERE fingerprint IN (
            SELECT fingerprint FROM refusals WHERE NOT {_IS_TRIED} AND NOT {_IS_REFUSED}
            ORDER BY fingerprint FOR UPDATE SKIP LOCKED
        )
        """  # noqa: S608 - constants only
    )
    may_try = db.execute(
        f"""
        INSERT INTO refusals (fingerprint, replica, tried_until, refused_until, refusal)
        VALUES (:fingerprint, :replica, now() + {_ATTEMPT}, '-infinity', '')
        ON CONFLICT (fingerprint) DO UPDATE SET replica = excluded.replica, tried_until = excluded.tried_until
        WHERE NOT {_IS_REFUSED}
            AND (refusals.replica = excluded.replica OR NOT {_IS_TRIED})
        RETURNING 1
        """,  # noqa: S608 - constants only
        {"fingerprint": fingerprint, "replica": replica},
    ).fetchone()
    if may_try:
        return SecretUse()
    row = db.execute(
        f"""
        SELECT refusal, CAST(extract(epoch FROM
            CASE WHEN {_IS_REFUSED} THEN refused_until ELSE tried_until END - now()
        ) AS DOUBLE PRECISION)
        FROM refusals WHERE fingerprint = ?
        """,  # noqa: S608 - constants only
        (fingerprint,),
    ).fetchone()
    if row is None:
        return SecretUse(wait_seconds=0.1)
    refusal, seconds = row
    return SecretUse(max(seconds, 0.1), _decode(refusal) if refusal else None)


def end_attempt(db: Database, replica: str, fingerprint: str) -> None:
    """Let others try this secret, unless it was refused meanwhile."""
    db.execute(
        f"DELETE FROM refusals WHERE fingerprint = ? AND replica = ? AND NOT {_IS_REFUSED}",  # noqa: S608
        (fingerprint, replica),
    )


def refuse_secret(
    db: Database, replica: str, fingerprint: str, refusal: SecretRefusal, seconds: float
) -> None:
    """Keep all replicas from trying it for so long."""
    db.execute(
        """
        INSERT INTO refusals (fingerprint, replica, tried_until, refused_until, refusal)
        VALUES (:fingerprint, :replica, '-infinity', now() + :seconds * INTERVAL '1 second', :refusal)
        ON CONFLICT (fingerprint) DO UPDATE SET replica = excluded.replica,
            tried_until = excluded.tried_until, refused_until = excluded.refused_until,
            refusal = excluded.refusal
        """,
        {
            "fingerprint": fingerprint,
            "replica": replica,
            "seconds": seconds,
            "refusal": _encode(refusal).decode(),
        },
    )
