-- The layout of hero_proc's store (hero_proc.db), as far as it is known without hero_proc's source.
--
-- Each fact says where it comes from. A number such as hero_proc#20 is an issue of hero_proc's public tracker, and
-- hero_codescalers#10 is one of hero_codescalers'. "Read" without a number was read on hero_proc's tracker as well, outside
-- a single issue. "Concluded" was read nowhere; it follows from what was read.
--
-- The exact names and types of all columns are concluded, unless a table says otherwise. The library therefore detects the
-- layout of each store that it is given, and refuses a store that does not fit, with the reasons.
--
-- The five tables are read, and so is that hero_proc opens SQLite through rusqlite. hero_proc has one connection behind a
-- mutex, and everything in hero_proc stalls while the connection is held (hero_proc#124). Columns and indexes are added by a
-- migration at the end of `init_schema` (read), so a column that came later stands last in a migrated store, whatever the
-- order here (concluded). Logs are files and no rows (hero_proc#131).
--
-- This is the newest layout. The variants that the library must understand as well are listed below the tables.

-- The embedded spec, the script, phase, attempt, times, exit code, error, tags and pid of a job, its autoincremented id, and
-- the context with its default 'core': hero_proc#20.
--   action          A name, or "{service}.{action}": hero_proc#20.
--   action_id       Since April 2026: read. hero_codescalers makes one action for each of its jobs: hero_codescalers#10.
--   service_id      Concluded.
--   spec_json       Large, as `stats_json` and `stderr` are: 145 KB a job in the store of hero_proc#131.
--   phase           The set of phases is concluded: see below.
--   tags            Not copied from the action's spec before hero_proc#50, hence NULL in older rows. The JSON array is concluded.
--   pid             A job's process outlives hero_proc, which finds it again by its row: hero_proc#80.
--   run_id          The run that the job belongs to, whose jobs may wait for each other: concluded.
--   created_at_ms   `created_at_ms` over RPC, in milliseconds: hero_codescalers#10. The other two times are concluded.
--   archived        Since hero_proc#91, and never set by anything: read.
-- Which indexes there are is concluded.
CREATE TABLE jobs (
    id             INTEGER PRIMARY KEY AUTOINCREMENT,
    context_name   TEXT    NOT NULL DEFAULT 'core',
    action         TEXT    NOT NULL,              -- an action's name, or "{service}.{action}"
    action_id      TEXT,                          -- an action's name; NULL on rows from before it existed
    service_id     TEXT,
    spec_json      TEXT    NOT NULL,              -- the ActionSpec, embedded: {"tags":[..],"script":..,"env":{..},..}
    script         TEXT,
    phase          TEXT    NOT NULL DEFAULT 'pending',
    attempt        INTEGER NOT NULL DEFAULT 0,
    tags           TEXT,                          -- JSON array of strings; NULL on rows from before hero_proc#50
    pid            INTEGER,
    exit_code      INTEGER,
    error          TEXT,
    stats_json     TEXT,
    stderr         TEXT,
    run_id         INTEGER,
    created_at_ms  INTEGER,
    started_at_ms  INTEGER,
    finished_at_ms INTEGER,
    archived       INTEGER NOT NULL DEFAULT 0
);
CREATE INDEX idx_jobs_phase    ON jobs(phase);
CREATE INDEX idx_jobs_action   ON jobs(context_name, action);
CREATE INDEX idx_jobs_run      ON jobs(run_id);
CREATE INDEX idx_jobs_created  ON jobs(created_at_ms);
CREATE INDEX idx_jobs_archived ON jobs(archived);

-- An action has tags, can have a schedule, and can depend on other actions: read. `action.set` inserts or updates the action
-- by its name before `job.create` makes the job: read. `action.set` moves `updated_at_ms` each time: concluded. The unique key
-- is concluded.
CREATE TABLE actions (
    id             INTEGER PRIMARY KEY AUTOINCREMENT,
    context_name   TEXT    NOT NULL DEFAULT 'core',
    name           TEXT    NOT NULL,
    spec_json      TEXT    NOT NULL,              -- {"tags":[..],"schedule_policy":null|{..},"depends_on":["name",..],..}
    created_at_ms  INTEGER,
    updated_at_ms  INTEGER,
    UNIQUE (context_name, name)
);

-- A service is a named container with a list of action names: read. Where the list stands is concluded.
CREATE TABLE services (
    id             INTEGER PRIMARY KEY AUTOINCREMENT,
    context_name   TEXT    NOT NULL DEFAULT 'core',
    name           TEXT    NOT NULL,
    spec_json      TEXT    NOT NULL,              -- {"actions":["name",..],"status":"start","class":"user",..}
    UNIQUE (context_name, name)
);

-- All columns are concluded.
CREATE TABLE runs (
    id             INTEGER PRIMARY KEY AUTOINCREMENT,
    context_name   TEXT    NOT NULL DEFAULT 'core',
    phase          TEXT    NOT NULL DEFAULT 'pending',
    created_at_ms  INTEGER,
    archived       INTEGER NOT NULL DEFAULT 0
);

-- All columns are concluded. No statement of the library names this table.
CREATE TABLE secrets (
    context_name   TEXT NOT NULL DEFAULT 'core',
    name           TEXT NOT NULL,
    value          BLOB NOT NULL,
    PRIMARY KEY (context_name, name)
);

-- Variants, all concluded. The library detects each from the store's own schema, and never guesses one from the data:
--   jobs without action_id · jobs without archived · context instead of context_name · spec instead of spec_json
--   created_at, updated_at, started_at and finished_at without _ms · actions without times · jobs without run_id
--   no services table · services.actions (a JSON array) instead of services.spec_json
--   further tables with a foreign key on jobs(id), although most columns that refer to a job have none: such a key does what
--   it declares (CASCADE, SET NULL, RESTRICT)
--   any journal mode, although WAL is usual · any page size · auto_vacuum none, full or incremental
-- Terminal phases, concluded, known or plausible, compared without case: succeeded success completed done ok failed error
--   cancelled canceled stopped halted killed timeout timed_out skipped. A job in any other phase has not finished.
-- A creation time below 10^11 is no time in ms, as it would be before 1973; the job is undated. Concluded.
