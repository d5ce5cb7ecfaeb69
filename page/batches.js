// The calls of one cleanup that is larger than a call's limit: whether another follows, and the report of them all.
//
// The sum is that of `Report::append` (src/report.rs), and what follows is decided as in src/batches.rs. Pure.

/** The reports of calls that followed each other. */
export class Batches {
  /** The report of all calls so far; null before the first. */
  sum = null;
  /** How many calls there were. */
  calls = 0;

  /** The sum will hold at most `maxIds` entries in each list. */
  constructor(maxIds) {
    this.maxIds = maxIds;
  }

  /** Takes the report of a call that deleted. Answers what follows: `again`, `done` or `stuck`. */
  add(report) {
    this.calls += 1;
    this.sum = this.#cut(this.sum === null ? report : append(this.sum, report));
    const took = report.jobs_deleted > 0 || report.actions_deleted > 0;
    if (report.more && took) return "again";
    return report.more || report.jobs_kept.over_limit > 0 ? "stuck" : "done";
  }

  #cut(sum) {
    const cut = { ...sum };
    for (const name of ["job_ids", "action_ids", "actions_kept"]) {
      cut.ids_truncated ||= cut[name].length > this.maxIds;
      cut[name] = cut[name].slice(0, this.maxIds);
    }
    cut.ids_truncated ||= cut.errors.length > this.maxIds;
    // An empty list would mean that nothing went wrong.
    cut.errors = cut.errors.slice(0, Math.max(this.maxIds, 1));
    return cut;
  }
}

/** Work adds up; the state at the end is the later call's. */
function append(earlier, later) {
  const sum = { ...later, asked: earlier.asked, dry_run: earlier.dry_run && later.dry_run };
  const added = [
    "jobs_planned",
    "jobs_deleted",
    "actions_planned",
    "actions_deleted",
    "actions_leaked",
    "bytes_planned",
    "bytes_freed",
    "duration_ms",
    "lock_ms",
  ];
  for (const name of added) sum[name] = earlier[name] + later[name];
  sum.jobs_matched = sum.jobs_planned + Object.values(later.jobs_kept).reduce((all, jobs) => all + jobs, 0);
  sum.job_ids = [...earlier.job_ids, ...later.job_ids].sort((a, b) => Number(a) - Number(b));
  sum.action_ids = [...earlier.action_ids, ...later.action_ids].sort(byBytes);
  sum.ids_truncated = earlier.ids_truncated || later.ids_truncated;
  sum.errors = [...new Set([...earlier.errors, ...later.errors])];
  // A map, since a table may be called `__proto__`.
  const dependents = new Map(Object.entries(earlier.dependents));
  for (const [table, rows] of Object.entries(later.dependents))
    dependents.set(table, (dependents.get(table) ?? 0) + rows);
  sum.dependents = Object.fromEntries(dependents);
  sum.cutoff_ms = [earlier.cutoff_ms, later.cutoff_ms].reduce((a, b) =>
    a === null ? b : b === null ? a : Math.max(a, b),
  );
  return sum;
}

/** Code points compare as UTF-8's bytes do, which is how the servers sort. */
function byBytes(a, b) {
  const [left, right] = [[...a], [...b]];
  const at = left.findIndex((char, index) => char !== right[index]);
  if (at < 0) return left.length - right.length;
  return at < right.length ? left[at].codePointAt(0) - right[at].codePointAt(0) : 1;
}
