// The page's pure modules: figures, names, ages and moments as the command writes them; the sum of several calls.

import assert from "node:assert/strict";
import { test } from "node:test";

import { Batches } from "../../../page/batches.js";
import {
  Unreadable,
  age,
  bytes,
  count,
  excerpt,
  moment,
  named,
  number,
  parseAge,
  parseMoment,
  printable,
  share,
  span,
} from "../../../page/format.js";
import { bars } from "../../../page/timeline.js";
import {
  batchesThatFollow,
  differences,
  errorInWords,
  filterInWords,
  isGone,
  jobsAndActions,
  whatIsGone,
  whatIsLeft,
  whatIsMissing,
  whatWent,
} from "../../../page/words.js";

const table = (name, write, rows) =>
  test(name, () => {
    for (const [from, to] of rows) assert.equal(write(from), to, JSON.stringify(from));
  });

table("counts have commas", count, [
  [0, "0"],
  [999, "999"],
  [1000, "1,000"],
  [1234567, "1,234,567"],
  ["9223372036854775807", "9,223,372,036,854,775,807"],
]);

// As `DecimalBytes` writes them; what lies in the middle goes to the even digit.
table("bytes have decimal prefixes", bytes, [
  [0, "0 B"],
  [999, "999 B"],
  [1000, "1.00 kB"],
  [1500, "1.50 kB"],
  [999_999, "1000.00 kB"],
  [1_000_000, "1.00 MB"],
  [1125, "1.12 kB"],
  [1375, "1.38 kB"],
  [1625, "1.62 kB"],
  [1875, "1.88 kB"],
  [179_300_000, "179.30 MB"],
  [1.5e12, "1.50 TB"],
]);

test("shares, spans and numbers", () => {
  assert.deepEqual([share(0, 0), share(1, 1000), share(1, 3), share(2, 2)], ["0 %", "<1 %", "33 %", "100 %"]);
  assert.deepEqual([span(4.24), span(99.96), span(272.4), span(1300)], ["4.2 ms", "100.0 ms", "272 ms", "1.30 s"]);
  assert.deepEqual(
    [number(1, "job"), number(0, "job"), number(1200, "pass", "passes")],
    ["1 job", "0 jobs", "1,200 passes"],
  );
});

test("what does not show, or moves others, is escaped", () => {
  assert.equal(printable("a\u{1b}[2J\nb\u{202e}"), String.raw`a\u{1b}[2J\nb\u{202e}`);
  for (const char of "\0\t\r\u{7f}\u{85}\u{a0}\u{ad}\u{301}\u{61c}\u{115f}\u{180e}\u{200b}\u{200f}\u{2028}\u{2066}\u{2800}\u{3000}\u{e000}\u{fe0f}\u{feff}\u{e0001}\u{10fffd}") {
    assert.match(printable(char), /^\\/, JSON.stringify(char));
  }
  const plain = "\" '\\<b>&amp;</b> grün 構築 é";
  assert.equal(printable(plain), plain);
  assert.equal(excerpt("x".repeat(201)), `${"x".repeat(200)}...`);
  assert.equal(excerpt("😀".repeat(200)), "😀".repeat(200));
  assert.deepEqual(
    [named(null), named(null, "no text"), named(""), named("\n")],
    ["(none)", "(no text)", "(empty)", "\\n"],
  );
});

table("ages are read as --older-than reads them", parseAge, [
  ["0", 0],
  ["250", 250],
  ["250ms", 250],
  ["3s", 3000],
  ["10m", 600_000],
  ["2h", 7_200_000],
  ["7d", 604_800_000],
  ["007d", 604_800_000],
]);
table("ages are written as they are read", age, [
  [0, "0ms"],
  [250, "250ms"],
  [90_000, "90s"],
  [7_200_000, "2h"],
  [604_800_000, "7d"],
]);

test("nothing else is an age", () => {
  for (const text of [
    "d",
    "5y",
    "+3s",
    "-1",
    " 3s",
    "3 s",
    "1.5h",
    "1h30m",
    "3S",
    "٣s",
    "1e3",
    "1,000",
    "104249991375d",
  ]) {
    assert.throws(() => parseAge(text), Unreadable, text);
  }
});

const NOW = 1_793_000_000_000;
table("moments are read as --before reads them", (text) => parseMoment(text, NOW), [
  ["2026-09-21T14:13:20Z", 1_790_000_000_000],
  ["2026-09-21T16:13:20+02:00", 1_790_000_000_000],
  ["2026-09-21", 1_789_948_800_000],
  ["2026-09-21t14:13:20.5z", 1_790_000_000_500],
  ["1973-03-03T09:46:40Z", 100_000_000_000],
]);

test("nothing else is a moment", () => {
  for (const text of [
    "now",
    "7d",
    "2026-09-21T14:13:20",
    "2026-9-21",
    "2026-02-30",
    "2026-13-01",
    "21.09.2026",
    "2026-09-21T24:00:01Z",
    "2026-10-27",
    "1973-03-03",
    "２026-09-21",
  ]) {
    assert.throws(() => parseMoment(text, NOW), Unreadable, text);
  }
  assert.equal(moment(1_790_000_000_000), "2026-09-21 14:13:20 UTC");
  assert.equal(moment(9e18), "9000000000000000000 ms");
});

test("jobs and actions in words", () => {
  assert.equal(jobsAndActions(12, 55, 45), "12 jobs and their 10 actions, and 45 actions that no job refers to");
  assert.equal(jobsAndActions(1, 1, 0), "1 job and its 1 action");
  assert.equal(whatWent(null), "nothing was deleted");
  assert.equal(whatWent({ jobs_deleted: 1, actions_deleted: 0, actions_leaked: 0 }), "1 job was deleted");
});

test("a filter is read aloud, and one that is missing is heard", () => {
  assert.equal(filterInWords({}), "All of codescaler’s finished jobs.");
  assert.equal(filterInWords({ force: true }), "All of codescaler’s jobs, finished or not.");
  assert.equal(
    filterInWords({
      kind: "bu\u{1b}ild",
      older_than_ms: 604_800_000,
      phases: ["failed", "ok", "x"],
      keep_last: 3,
      except_actor: ["ana"],
      leaked: false,
    }),
    "Codescaler’s finished jobs of kind bu\\u{1b}ild, created and ended at least 7d ago, in phase failed, ok or x. " +
      "Those of actor ana, and the last 3 of each group stay. Actions that no job refers to stay.",
  );
  const usage = { jobs: 2, by: { kind: [{ value: "build" }], target: [], actor: [] } };
  assert.equal(whatIsMissing({ kind: "biuld" }, usage, 100), "There is no job of kind biuld.");
  assert.equal(whatIsMissing({ kind: "biuld" }, usage, 1), "No job has all of this.");
});

test("an error keeps its words, and its data is printable", () => {
  const { message, facts } = errorInWords({
    kind: "store_unfit",
    message: "no\n",
    data: { kind: "store_unfit", problems: ["\u{202e}"], "a\nb": 1 },
  });
  assert.equal(message, "no\\n");
  assert.deepEqual(facts, [
    ["problems", '["\\u{202e}"]'],
    ["a\\nb", "1"],
  ]);
});

test("days become at most 180 bars of the same width", () => {
  const DAY = 86_400_000;
  assert.deepEqual(bars([]), { days: 1, bars: [] });
  const few = bars([
    { day_ms: 3 * DAY, jobs: 2, bytes: 5 },
    { day_ms: DAY, jobs: 1, bytes: 4 },
  ]);
  assert.deepEqual([few.days, few.bars.map((bar) => bar.jobs)], [1, [1, 0, 2]]);
  const many = bars(Array.from({ length: 400 }, (_, index) => ({ day_ms: index * 2 * DAY, jobs: 1, bytes: 1 })));
  assert.ok(many.bars.length <= 180);
  assert.equal(
    many.bars.reduce((sum, bar) => sum + bar.jobs, 0),
    400,
  );
});

/** The report of a call that deleted the jobs `ids`, and left `left`. */
const report = (ids, left, other = {}) => ({
  dry_run: false,
  asked: { tags: ["codescaler"] },
  jobs_matched: ids.length + left,
  jobs_planned: ids.length,
  jobs_deleted: ids.length,
  jobs_kept: { active: 1, over_limit: left },
  actions_planned: ids.length,
  actions_deleted: ids.length,
  actions_leaked: 0,
  actions_kept: [],
  actions_kept_count: 0,
  job_ids: ids,
  action_ids: ids.map((id) => `a${id}`),
  ids_truncated: false,
  dependents: {},
  errors: [],
  more: left > 0,
  cutoff_ms: null,
  plan: String(left),
  bytes_planned: 10,
  bytes_freed: 5,
  store: { file_bytes: 9, wal_bytes: 0, free_bytes: left },
  duration_ms: 1.5,
  lock_ms: 1,
  ...other,
});

test("the sum of several calls adds what was done, and ends as the last call", () => {
  const batches = new Batches(3);
  assert.equal(
    batches.add(
      report([1, 2], 3, { dependents: JSON.parse('{"__proto__": 1, "notes": 2}'), errors: ["e"], cutoff_ms: 7 }),
    ),
    "again",
  );
  assert.equal(batches.add(report([10, 9], 1, { dependents: { notes: 3 }, errors: ["e", "f"] })), "again");
  assert.equal(batches.add(report([11], 0)), "done");
  const { sum } = batches;
  assert.deepEqual(
    [sum.jobs_deleted, sum.jobs_planned, sum.jobs_matched, sum.bytes_planned, sum.duration_ms],
    [5, 5, 6, 30, 4.5],
  );
  assert.deepEqual([sum.job_ids, sum.action_ids, sum.ids_truncated], [[1, 2, 9], ["a1", "a10", "a11"], true]);
  assert.deepEqual(Object.entries(sum.dependents), [
    ["__proto__", 1],
    ["notes", 5],
  ]);
  assert.deepEqual(
    [sum.errors, sum.cutoff_ms, sum.more, sum.plan, sum.store.free_bytes, batches.calls],
    [["e", "f"], 7, false, "0", 0, 3],
  );
});

test("a call that takes nothing is not repeated", () => {
  assert.equal(new Batches(3).add(report([], 5)), "stuck");
  assert.equal(new Batches(3).add(report([], 5, { more: false })), "stuck");
  assert.equal(new Batches(3).add(report([], 0)), "done");
  assert.equal(new Batches(3).add(report([], 5, { actions_deleted: 2 })), "again");
});

test("the batches that follow are counted", () => {
  assert.equal(batchesThatFollow(report([1, 2], 0)), "");
  assert.equal(batchesThatFollow(report([1, 2], 2)), "1 more batch would follow, with 2 jobs.");
  assert.equal(batchesThatFollow(report([1, 2], 5)), "About 3 more batches would follow, with 5 jobs.");
  assert.equal(
    batchesThatFollow(report([], 0, { more: true })),
    "More actions that no job refers to are there than one batch takes.",
  );
});

/** A preview that lists the jobs `ids`, of all that go if it is not `cut`. */
const preview = (ids, { cut = false, left = 0, actions = [] } = {}) => ({
  dry_run: true,
  jobs_matched: ids.length + left,
  jobs_planned: ids.length,
  jobs_kept: { over_limit: left },
  actions_planned: actions.length,
  job_ids: ids,
  action_ids: actions,
  ids_truncated: cut,
});

test("two previews are told apart by their numbers, and by the jobs that both can list", () => {
  assert.deepEqual(differences(preview([1, 2, 3]), preview([2, 3, 9])), [
    ["no longer among them", "1"],
    ["new among them", "9"],
  ]);
  assert.deepEqual(differences(preview([1, 2]), preview([2], { left: 1200 })), [
    ["jobs that go", "2, now 1"],
    ["jobs that match", "2, now 1,201"],
    ["stay: over the limit", "0, now 1,200"],
    ["no longer among them", "1"],
  ]);
  // What lies behind the end of a list that was cut may still go.
  assert.deepEqual(differences(preview([5, 6], { cut: true }), preview([4, 5], { cut: true })), [
    ["new among them", "4"],
  ]);
  assert.deepEqual(differences(preview([5]), preview([5])), [
    ["in the same numbers", "a job or an action was set anew"],
  ]);
});

test("a deletion whose answer was lost is told by what is still there", () => {
  assert.match(whatIsGone(preview([1, 2]), preview([3])), /none of the 2 jobs .* The batch was deleted/);
  assert.match(whatIsGone(preview([1, 2]), preview([1, 2])), /all of the 2 jobs .* not deleted, unless it still runs/);
  assert.match(whatIsGone(preview([1, 2]), preview([2])), /1 of the 2 jobs .* not deleted, but the store has changed/);
  assert.match(whatIsGone(preview([], { actions: ["a"] }), preview([])), /none of the 1 actions/);
  assert.deepEqual(
    [isGone(preview([1]), preview([2])), isGone(preview([1, 2]), preview([2])), isGone(preview([]), preview([]))],
    [true, false, false],
  );
  assert.match(
    whatIsLeft(1200, preview([1], { left: 599 })),
    /1,200 jobs were left .* 600 would go now. It was deleted/,
  );
  assert.match(whatIsLeft(1, preview([1])), /1 job was left .* It was not deleted, unless it still runs/);
});
