"""
The tables of the SQLite ledger, version by version.

`targets` has a row per target; everything else hangs on its id. Times are milliseconds. Lists and maps that
are only ever read whole are JSON. `listing` is the number of listed `jobs` per type and status, kept with
them, so that no poll counts rows. `released` is 1 where a series shows its value; until then it shows 0, so
that Prometheus sees it rise from there (contract, rule 2). In `targets` it has the job types whose series are
released, by family, and the histograms' bounds at that time. `shown_types` has when each job type's series
were first shown, at 0; a series with a row has `created_ms` in it, a histogram in its value. `revision` grows
with every change of what is shown of a target.
"""

APPLICATION_ID = 0x4F435450  # "OCTP": marks an SQLite file as a ledger

MIGRATIONS: tuple[tuple[str, ...], ...] = (
    (
        """
        CREATE TABLE targets (
            id INTEGER PRIMARY KEY,
            project TEXT NOT NULL,
            project_id TEXT NOT NULL,
            workspace TEXT NOT NULL,
            commits INTEGER NOT NULL DEFAULT 0,
            committed_ms INTEGER NOT NULL DEFAULT 0,
            baselines TEXT NOT NULL DEFAULT '{}',
            forgotten_before_ms INTEGER,
            horizon_ms INTEGER,
            watermark_ms INTEGER NOT NULL DEFAULT 0,
            covered_from_ms INTEGER NOT NULL DEFAULT 0,
            full_sync_ms INTEGER NOT NULL DEFAULT 0,
            filters TEXT NOT NULL DEFAULT '{}',
            audit TEXT,
            shown_types TEXT NOT NULL DEFAULT '[]',
            UNIQUE (project, project_id, workspace)
        ) STRICT
        """,
        """
        CREATE TABLE jobs (
            target INTEGER NOT NULL REFERENCES targets (id),
            id INTEGER NOT NULL,
            job_type TEXT NOT NULL,
            status TEXT NOT NULL,
            created_ms INTEGER NOT NULL,
            updated_ms INTEGER NOT NULL,
            started_ms INTEGER,
            ended_ms INTEGER,
            counted_start_ms INTEGER,
            listed INTEGER NOT NULL,
            in_flight INTEGER NOT NULL,
            PRIMARY KEY (target, id)
        ) STRICT, WITHOUT ROWID
        """,
        "CREATE INDEX jobs_by_creation ON jobs (target, created_ms) WHERE in_flight = 0",
        """
        CREATE INDEX jobs_in_flight ON jobs (target, job_type, status, created_ms, started_ms)
            WHERE in_flight = 1
        """,
        """
        CREATE TABLE listing (
            target INTEGER NOT NULL REFERENCES targets (id),
            job_type TEXT NOT NULL,
            status TEXT NOT NULL,
            jobs INTEGER NOT NULL,
            PRIMARY KEY (target, job_type, status)
        ) STRICT, WITHOUT ROWID
        """,
        """
        CREATE TABLE counters (
            target INTEGER NOT NULL REFERENCES targets (id),
            family TEXT NOT NULL,
            job_type TEXT NOT NULL,
            status TEXT NOT NULL,
            msg_code TEXT NOT NULL,
            born INTEGER NOT NULL,
            value INTEGER NOT NULL,
            exemplar TEXT,
            PRIMARY KEY (target, family, job_type, status, msg_code)
        ) STRICT, WITHOUT ROWID
        """,
        """
        CREATE TABLE histograms (
            target INTEGER NOT NULL REFERENCES targets (id),
            family TEXT NOT NULL,
            job_type TEXT NOT NULL,
            status TEXT NOT NULL,
            born INTEGER NOT NULL,
            value TEXT NOT NULL,
            PRIMARY KEY (target, family, job_type, status)
        ) STRICT, WITHOUT ROWID
        """,
        """
        CREATE TABLE recent_failures (
            target INTEGER NOT NULL REFERENCES targets (id),
            at_ms INTEGER NOT NULL,
            failure TEXT NOT NULL
        ) STRICT
        """,
        "CREATE INDEX recent_failures_by_time ON recent_failures (target, at_ms)",
    ),
    # When series began: unknown for those that have counted already, and nothing is lost for the others.
    (
        "ALTER TABLE counters ADD COLUMN created_ms INTEGER",
        """
        UPDATE targets SET shown_types =
            (SELECT json_group_object(value, committed_ms) FROM json_each(shown_types))
        """,
    ),
    # The API's path joins the identity of a target. '' marks a target of an older version: it takes the path
    # that it is next polled with. `endpoint` is the one polled last, `server` is what was found out about it,
    # `labels` are the undocumented job types and statuses that have series of their own. `listing` tells jobs
    # in flight from ended ones, since an undocumented status may hold both. So does `listed` of jobs that are
    # not listed any more: -1 were in flight, 0 had ended.
    (
        """
        CREATE TABLE targets_with_path (
            id INTEGER PRIMARY KEY,
            project TEXT NOT NULL,
            project_id TEXT NOT NULL,
            workspace TEXT NOT NULL,
            path TEXT NOT NULL DEFAULT '',
            endpoint TEXT NOT NULL DEFAULT '',
            commits INTEGER NOT NULL DEFAULT 0,
            committed_ms INTEGER NOT NULL DEFAULT 0,
            baselines TEXT NOT NULL DEFAULT '{}',
            forgotten_before_ms INTEGER,
            horizon_ms INTEGER,
            watermark_ms INTEGER NOT NULL DEFAULT 0,
            covered_from_ms INTEGER NOT NULL DEFAULT 0,
            full_sync_ms INTEGER NOT NULL DEFAULT 0,
            filters TEXT NOT NULL DEFAULT '{}',
            audit TEXT,
            shown_types TEXT NOT NULL DEFAULT '{}',
            server TEXT NOT NULL DEFAULT '{}',
            labels TEXT NOT NULL DEFAULT '{}',
            UNIQUE (project, project_id, workspace, path)
        ) STRICT
        """,
        """
        INSERT INTO targets_with_path (id, project, project_id, workspace, commits, committed_ms, baselines,
            forgotten_before_ms, horizon_ms, watermark_ms, covered_from_ms, full_sync_ms, filters, audit,
            shown_types)
        SELECT id, project, project_id, workspace, commits, committed_ms, baselines,
            forgotten_before_ms, horizon_ms, watermark_ms, covered_from_ms, full_sync_ms, filters, audit,
            shown_types
        FROM targets
        """,
        "DROP TABLE targets",
        "ALTER TABLE targets_with_path RENAME TO targets",
        """
        CREATE TABLE listing_in_flight (
            target INTEGER NOT NULL REFERENCES targets (id),
            job_type TEXT NOT NULL,
            status TEXT NOT NULL,
            in_flight INTEGER NOT NULL,
            jobs INTEGER NOT NULL,
            PRIMARY KEY (target, job_type, status, in_flight)
        ) STRICT, WITHOUT ROWID
        """,
        """
        INSERT INTO listing_in_flight
        SELECT target, job_type, status,
            status NOT IN ('FINISHED', 'STOPPED', 'SUBMIT_FAILED', 'RUN_FAILED', 'UPLOAD_FAILED'), jobs
        FROM listing
        """,
        "DROP TABLE listing",
        """
        UPDATE jobs SET listed = -1
        WHERE listed = 0
            AND status NOT IN ('FINISHED', 'STOPPED', 'SUBMIT_FAILED', 'RUN_FAILED', 'UPLOAD_FAILED')
        """,
        "ALTER TABLE listing_in_flight RENAME TO listing",
        """
        CREATE TABLE set_apart (
            target INTEGER NOT NULL REFERENCES targets (id),
            key TEXT NOT NULL,
            job_id INTEGER,
            status TEXT NOT NULL,
            created_ms INTEGER,
            problem TEXT NOT NULL,
            PRIMARY KEY (target, key)
        ) STRICT, WITHOUT ROWID
        """,
    ),
    # `released` in place of `born`, the commit that first wrote a series, which was at 0 up to the next one.
    # What had no commit after it is not released yet. Of the series that are shown with their job type, those
    # without a row have nothing that tells their commit but its time. What cannot be read is passed over: the
    # look at all values that follows names its column.
    (
        "ALTER TABLE targets ADD COLUMN released TEXT NOT NULL DEFAULT '{}'",
        "ALTER TABLE targets ADD COLUMN revision INTEGER NOT NULL DEFAULT 0",
        """
        UPDATE targets SET released = (
            WITH types AS (
                SELECT json_group_array(shown.key) AS released
                FROM json_each(iif(json_valid(targets.shown_types), targets.shown_types, '{}')) AS shown
                WHERE shown.value <> targets.committed_ms AND NOT EXISTS (
                    SELECT 1 FROM counters
                    WHERE counters.target = targets.id AND counters.job_type = shown.key
                        AND counters.msg_code = '' AND counters.born = targets.commits
                        AND counters.status IN
                            ('', 'FINISHED', 'STOPPED', 'SUBMIT_FAILED', 'RUN_FAILED', 'UPLOAD_FAILED')
                )
            ), bounds AS (
                SELECT json_group_object(family, json(bounds)) AS released FROM (
                    SELECT family, json_extract(value, '$.bounds') AS bounds FROM histograms
                    WHERE histograms.target = targets.id AND iif(json_valid(value),
                        json_type(value, '$.bounds') = 'array' AND NOT EXISTS (
                            SELECT 1 FROM json_each(histograms.value, '$.bounds') AS bound
                            WHERE bound.type NOT IN ('integer', 'real')
                        ), 0)
                    GROUP BY family
                )
            )
            SELECT json_object(
                'types', json_object('created', json(types.released), 'completed', json(types.released),
                    'failures', json(types.released), 'submitting', json(types.released),
                    'running', json(types.released)),
                'bounds', json(bounds.released))
            FROM types, bounds
        )
        """,
        "ALTER TABLE counters ADD COLUMN released INTEGER NOT NULL DEFAULT 0",
        """
        UPDATE counters SET released = born <> (SELECT commits FROM targets WHERE targets.id = target)
        """,
        "ALTER TABLE counters DROP COLUMN born",
        "ALTER TABLE histograms ADD COLUMN released INTEGER NOT NULL DEFAULT 0",
        """
        UPDATE histograms SET released = born <> (SELECT commits FROM targets WHERE targets.id = target)
        """,
        "ALTER TABLE histograms DROP COLUMN born",
    ),
    # Single runs. `jobs.runs` is how many runs of the job were seen to end; `data_id` and `resource_spec` are
    # kept while the job is in flight, so that finished jobs take no more room. `failed_runs` has what
    # model.Run has, of failed runs. `hourly_runs` counts the runs that ended, by the hour of our clock (hours
    # since 1970); `targets.hourly_from_ms` is when that began, 0 before the first commit. `rows_ahead_ms` is
    # what the clock of the rows was ahead of ours at the last commit.
    (
        "ALTER TABLE targets ADD COLUMN rows_ahead_ms INTEGER NOT NULL DEFAULT 0",
        "ALTER TABLE targets ADD COLUMN hourly_from_ms INTEGER NOT NULL DEFAULT 0",
        "ALTER TABLE jobs ADD COLUMN runs INTEGER NOT NULL DEFAULT 1",
        "ALTER TABLE jobs ADD COLUMN data_id TEXT",
        "ALTER TABLE jobs ADD COLUMN resource_spec TEXT",
        "UPDATE jobs SET runs = 0 WHERE in_flight = 1 OR listed = -1",
        """
        CREATE TABLE failed_runs (
            target INTEGER NOT NULL REFERENCES targets (id),
            job_id INTEGER NOT NULL,
            number INTEGER NOT NULL,
            job_type TEXT NOT NULL,
            status TEXT NOT NULL,
            msg_code TEXT NOT NULL,
            msg_error TEXT NOT NULL,
            data_id TEXT NOT NULL,
            resource_spec TEXT NOT NULL,
            created_ms INTEGER NOT NULL,
            started_ms INTEGER,
            ended_ms INTEGER,
            at_ms INTEGER NOT NULL,
            submitting_ms INTEGER,
            running_ms INTEGER
        ) STRICT
        """,
        "CREATE INDEX failed_runs_by_time ON failed_runs (target, at_ms, job_id, number)",
        # What cannot be read of the old table decides no count, and is left behind.
        """
        INSERT INTO failed_runs (target, job_id, number, job_type, status, msg_code, msg_error, data_id,
            resource_spec, created_ms, started_ms, ended_ms, at_ms)
        SELECT was.target, was.job_id, was.number, was.job_type, was.status, was.msg_code, was.msg_error, '',
            '', ifnull(jobs.created_ms, was.at_ms), iif(jobs.ended_ms = was.at_ms, jobs.started_ms, NULL),
            was.at_ms, was.at_ms
        FROM (
            SELECT target, at_ms, failure ->> 'job_id' AS job_id, failure ->> 'job_type' AS job_type,
                failure ->> 'status' AS status, failure ->> 'msg_code' AS msg_code,
                failure ->> 'msg_error' AS msg_error,
                row_number() OVER (PARTITION BY target, failure ->> 'job_id' ORDER BY at_ms) AS number
            FROM recent_failures WHERE json_valid(failure)
        ) AS was
        LEFT JOIN jobs ON jobs.target = was.target AND jobs.id = was.job_id
        WHERE typeof(was.job_id) = 'integer' AND typeof(was.job_type) = 'text'
            AND typeof(was.status) = 'text' AND typeof(was.msg_code) = 'text'
            AND typeof(was.msg_error) = 'text'
        """,
        """
        UPDATE jobs SET runs = kept.runs
        FROM (SELECT target, job_id, max(number) AS runs FROM failed_runs GROUP BY target, job_id) AS kept
        WHERE jobs.target = kept.target AND jobs.id = kept.job_id AND jobs.runs < kept.runs
        """,
        "DROP TABLE recent_failures",
        """
        CREATE TABLE hourly_runs (
            target INTEGER NOT NULL REFERENCES targets (id),
            hour INTEGER NOT NULL,
            job_type TEXT NOT NULL,
            status TEXT NOT NULL,
            failed INTEGER NOT NULL,
            runs INTEGER NOT NULL,
            PRIMARY KEY (target, hour, job_type, status, failed)
        ) STRICT, WITHOUT ROWID
        """,
    ),
    # Events that wait until they are written, in the order in which their runs were counted. Ids are never
    # used again: all up to one are deleted once it is written. `run` is a model.Run as JSON, `counted_ms` is
    # when the poll that counted it was recorded.
    (
        """
        CREATE TABLE events (
            id INTEGER PRIMARY KEY AUTOINCREMENT,
            target INTEGER NOT NULL REFERENCES targets (id),
            counted_ms INTEGER NOT NULL,
            run TEXT NOT NULL
        ) STRICT
        """,
        "CREATE INDEX events_by_target ON events (target)",
    ),
    # Resources. `jobs.resource_label` is the label under which a job in flight counts in `resource_jobs`: it
    # is kept in balance as `listing` is. Jobs of an older version have none until a poll lists them again.
    # `jobs.rerun` is 1 where the run under way was counted as a rerun. What runs have used can be more than
    # 64 bits hold: `resource_seconds.value` is a decimal number as text, in thousandths of a core, of a GPU
    # or of a GiB, times milliseconds. `targets.unreadable_specs` are those that were named already.
    (
        "ALTER TABLE targets ADD COLUMN unreadable_specs TEXT NOT NULL DEFAULT '[]'",
        "ALTER TABLE jobs ADD COLUMN rerun INTEGER NOT NULL DEFAULT 0",
        "ALTER TABLE jobs ADD COLUMN resource_label TEXT",
        # Its start was counted before there were reruns. So its end is not counted as one.
        """
        UPDATE jobs SET rerun = 1
        WHERE (in_flight = 1 OR listed = -1) AND runs > 0 AND started_ms IS NOT NULL
            AND (ended_ms IS NULL OR started_ms >= ended_ms)
        """,
        """
        CREATE TABLE histograms_by_spec (
            target INTEGER NOT NULL REFERENCES targets (id),
            family TEXT NOT NULL,
            job_type TEXT NOT NULL,
            status TEXT NOT NULL,
            resource_spec TEXT NOT NULL,
            released INTEGER NOT NULL,
            value TEXT NOT NULL,
            PRIMARY KEY (target, family, job_type, status, resource_spec)
        ) STRICT, WITHOUT ROWID
        """,
        """
        INSERT INTO histograms_by_spec SELECT target, family, job_type, status, '', released, value
        FROM histograms
        """,
        "DROP TABLE histograms",
        "ALTER TABLE histograms_by_spec RENAME TO histograms",
        """
        CREATE TABLE resource_jobs (
            target INTEGER NOT NULL REFERENCES targets (id),
            job_type TEXT NOT NULL,
            resource_spec TEXT NOT NULL,
            status TEXT NOT NULL,
            jobs INTEGER NOT NULL,
            PRIMARY KEY (target, job_type, resource_spec, status)
        ) STRICT, WITHOUT ROWID
        """,
        """
        CREATE TABLE resource_seconds (
            target INTEGER NOT NULL REFERENCES targets (id),
            family TEXT NOT NULL,
            job_type TEXT NOT NULL,
            status TEXT NOT NULL,
            released INTEGER NOT NULL,
            value TEXT NOT NULL,
            created_ms INTEGER,
            PRIMARY KEY (target, family, job_type, status)
        ) STRICT, WITHOUT ROWID
        """,
    ),
    # Whether counters have the last start and the last end of a job. Of the jobs of an older version this is
    # not known, and `targets.tells_counted` is 0. `left_ms` is when a job was last seen to have left flight,
    # by the clock of the rows: jobs older than the lookback are not forgotten at once.
    (
        "ALTER TABLE jobs ADD COLUMN start_counted INTEGER NOT NULL DEFAULT 0",
        "ALTER TABLE jobs ADD COLUMN end_counted INTEGER NOT NULL DEFAULT 0",
        "ALTER TABLE jobs ADD COLUMN left_ms INTEGER",
        "ALTER TABLE targets ADD COLUMN tells_counted INTEGER NOT NULL DEFAULT 1",
        "UPDATE targets SET tells_counted = 0 WHERE commits > 0",
    ),
    # `outside` is 1 for a finished job that was created before the lookback and is kept for a while. With the
    # first index a poll finds those that it may forget, with the second the jobs that were in flight and are
    # in no answer, however many jobs are stored.
    (
        "ALTER TABLE jobs ADD COLUMN outside INTEGER NOT NULL DEFAULT 0",
        """
        UPDATE jobs SET outside = 1, left_ms = coalesce(left_ms, 0)
        WHERE in_flight = 0 AND listed <> 1
            AND created_ms < (SELECT horizon_ms FROM targets WHERE targets.id = jobs.target)
        """,
        "CREATE INDEX jobs_outside ON jobs (target, left_ms) WHERE outside = 1",
        "CREATE INDEX jobs_gone ON jobs (target, left_ms) WHERE listed = -1",
    ),
)
VERSION = len(MIGRATIONS)
