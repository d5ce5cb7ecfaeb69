// The words for what the servers answer: reasons, outcomes, errors, and a filter read aloud. They are the command's.
//
// Everything here is pure. Text from the store is made printable on its way into a sentence.

import { age, count, excerpt, moment, named, number } from "./format.js";

/** Why jobs stay: the report's name, the command's words, and the rule in a sentence. */
export const JOBS_KEPT = [
  ["excepted", "excepted", "They carry a tag that stays."],
  ["other_phase", "in another phase", "Their phase was not asked for."],
  ["undated", "no creation time in milliseconds", "Nobody knows whether they are old enough."],
  ["recent", "too recent", "They were created, or ended, after the cut-off."],
  ["active", "not finished", "They run, or wait to run."],
  ["unstoppable", "could not be stopped", "They could not be stopped, or were started again."],
  ["run_active", "their run goes on", "Another job of their run has not finished and stays."],
  ["kept_last", "the last of their group", "They are among the newest that succeeded, or that did not."],
  ["referenced", "held by a foreign key", "A row that stays refers to them."],
  ["over_limit", "over the limit", "They are left for the batches that follow."],
];

const ACTION_REASONS = {
  job: "a job that stays",
  service: "a service",
  action: "an action that stays",
  schedule: "its schedule",
  untagged: "no root tag of its own",
  recent: "a recent change",
  undated: "no time at which it was set",
};

/** Why an action stays. */
export function actionReason(reason) {
  return ACTION_REASONS[reason] ?? "another reason";
}

const RECLAIM_REASONS = {
  time: "the time was up; another call goes on from there",
  reader: "somebody reads an older state of the store; it becomes short when they have ended",
  too_little_free: "too little of it is free",
  nothing_to_do: "it holds no free pages, or gives them back by itself",
  lock_too_long: "hero_proc would be kept from writing for too long",
  disk_too_full: "there is too little room on disk",
  in_memory: "it is in memory",
  rowids_in_use: "a virtual table or a trigger may rely on row ids that would change",
};

/** Why space is given back in part, or not at all. */
export function reclaimReason(reason) {
  return RECLAIM_REASONS[reason] ?? "another reason";
}

/** Jobs and actions that go, in words: `12 jobs and their 10 actions, and 45 actions that no job refers to`. */
export function jobsAndActions(jobs, actions, leaked) {
  const own = Math.max(actions - leaked, 0);
  const words = [];
  if (jobs > 0 && own > 0)
    words.push(`${number(jobs, "job")} and ${jobs === 1 ? "its" : "their"} ${number(own, "action")}`);
  else if (jobs > 0) words.push(number(jobs, "job"));
  else if (own > 0) words.push(number(own, "action"));
  if (leaked > 0) words.push(`${number(leaked, "action")} that no job refers to`);
  return words.join(", and ");
}

/** What the deletions in `sum` came to: `12 jobs were deleted`. */
export function whatWent(sum) {
  const { jobs_deleted: jobs, actions_deleted: actions, actions_leaked: leaked } = sum ?? {};
  if (!jobs && !actions) return "nothing was deleted";
  return `${jobsAndActions(jobs, actions, leaked)} ${jobs + actions === 1 ? "was" : "were"} deleted`;
}

/** The batches that follow the one of `report`, in words; none if it is the last. */
export function batchesThatFollow(report) {
  const left = report.jobs_kept.over_limit;
  if (!report.more) return "";
  if (left === 0) return "More actions that no job refers to are there than one batch takes.";
  const batches = report.jobs_planned > 0 ? Math.ceil(left / report.jobs_planned) : 1;
  return `${batches === 1 ? "1 more batch" : `About ${count(batches)} more batches`} would follow, with ${number(left, "job")}.`;
}

const list = (names, last) =>
  names
    .map((name) => named(name))
    .join(", ")
    .replace(/, ([^,]*)$/, ` ${last} $1`);

/** The params of a cleanup read aloud. Who reads "all" knows that no filter bounds what goes. */
export function filterInWords(params) {
  const { kind, target, actor, phases, force, keep_last: last } = params;
  const of = [
    kind && `of kind ${excerpt(kind)}`,
    target && `with target ${excerpt(target)}`,
    actor && `of actor ${excerpt(actor)}`,
  ];
  const tags = of.filter(Boolean).join(", ");
  const parts = [`${tags ? "Codescaler" : "All of codescaler"}’s ${force ? "jobs" : "finished jobs"}`];
  if (tags) parts[0] += ` ${tags}`;
  if (force) parts.push("finished or not");
  if (params.older_than_ms !== undefined) parts.push(`created and ended at least ${age(params.older_than_ms)} ago`);
  if (params.before_ms !== undefined) parts.push(`created and ended by ${moment(params.before_ms)}`);
  if (phases) parts.push(`in phase ${list(phases, "or")}`);
  let text = `${parts.join(", ")}.`;
  const stay = [];
  for (const [name, words] of [
    ["except_kind", "kind"],
    ["except_target", "target"],
    ["except_actor", "actor"],
  ]) {
    if (params[name]) stay.push(`those of ${words} ${list(params[name], "and")}`);
  }
  if (last) stay.push(`the last ${count(last)} of each group`);
  if (stay.length > 0) text += ` ${stay.join(", and ").replace(/^t/, "T")} stay.`;
  if (params.leaked === false) text += " Actions that no job refers to stay.";
  return text;
}

/** Why nothing matches the filter, as far as the `usage` of all jobs can say; none if it can't. */
export function whatIsMissing(params, usage, top) {
  if (usage.jobs === 0) return "There are no jobs of codescaler's.";
  for (const field of ["kind", "target", "actor"]) {
    const values = (usage.by[field] ?? []).map((entry) => entry.value);
    if (params[field] && !values.includes(params[field]) && values.length < top) {
      return `There is no job of ${field} ${excerpt(params[field])}.`;
    }
  }
  return "No job has all of this.";
}

/** What two previews of the same filter differ in: `jobs that go`, and `12, now 10`. */
export function differences(before, now) {
  const rows = [
    ["jobs that go", before.jobs_planned, now.jobs_planned],
    ["actions that go", before.actions_planned, now.actions_planned],
    ["jobs that match", before.jobs_matched, now.jobs_matched],
  ];
  for (const [name, words] of JOBS_KEPT) rows.push([`stay: ${words}`, before.jobs_kept[name], now.jobs_kept[name]]);
  const changed = rows
    .filter(([, then, later]) => then !== later)
    .map(([name, then, later]) => [name, `${count(then)}, now ${count(later)}`]);
  const compare = (name, from, to) => {
    const known = new Set(to.job_ids);
    // Lists that were cut say nothing about what lies behind their end.
    const last = to.job_ids.at(-1) ?? 0;
    const gone = from.job_ids.filter((id) => !known.has(id) && (Number(id) < Number(last) || !to.ids_truncated));
    const more = gone.length > 10 ? `, and ${gone.length - 10} more` : "";
    if (gone.length > 0) changed.push([name, gone.slice(0, 10).join(", ") + more]);
  };
  compare("no longer among them", before, now);
  compare("new among them", now, before);
  return changed.length > 0 ? changed : [["in the same numbers", "a job or an action was set anew"]];
}

/** What the number of jobs that are left tells about a deletion without a preview, whose answer was lost. */
export function whatIsLeft(before, now) {
  const left = now.jobs_planned + now.jobs_kept.over_limit;
  const then = `${number(before, "job was", "jobs were")} left before this batch`;
  return `Looked again: ${then}, and ${count(left)} would go now. ${left < before ? "It was deleted." : `It was not deleted, ${UNLESS_IT_RUNS}.`}`;
}

/** The names in a preview by which it is seen whether what it showed is still there. */
const listed = (report) => (report.job_ids.length > 0 ? report.job_ids : report.action_ids);

/** How many of the names that the preview `before` listed are listed `now`. */
function stillThere(before, now) {
  const known = new Set(before.job_ids.length > 0 ? now.job_ids : now.action_ids);
  return listed(before).filter((name) => known.has(name)).length;
}

/** Whether none of what the preview `before` listed is listed `now`. */
export const isGone = (before, now) => listed(before).length > 0 && stillThere(before, now) === 0;

/** What two previews tell about a deletion between them whose answer was lost. It went whole, or not at all. */
export function whatIsGone(before, now) {
  const [then, still] = [listed(before).length, stillThere(before, now)];
  const what = `the ${count(then)} ${before.job_ids.length > 0 ? "jobs" : "actions"} that the preview listed`;
  if (still === 0) return `Looked again: none of ${what} is there any more. The batch was deleted.`;
  if (still === then) {
    return `Looked again: all of ${what} are still there. The batch was not deleted, ${UNLESS_IT_RUNS}.`;
  }
  return (
    `Looked again: ${count(still)} of ${what} are still there. ` +
    "The batch was not deleted, but the store has changed since."
  );
}

const UNLESS_IT_RUNS = "unless it still runs: refresh before you try again";

/** What the reader of an error can do, by its kind. */
const HELP = {
  plan_changed: "The preview below shows what would go now.",
  store_busy: "Somebody else writes to the store. Try again in a moment.",
  not_admin:
    "The gateway knows its admins by their user: ask the operator of this node to start it with --admin and yours.",
  force_unavailable: "Untick “Also jobs that have not finished”.",
  disk_full: "A smaller limit needs less room: it stands under “More filters”.",
  upstream_unreachable: "This page tries again by itself.",
  unreachable:
    "Nothing answers at this page's address. Is the command that serves it still running? This page tries again by itself.",
};

/** An error in the command's words: what went wrong, what its data adds, and what may help. */
export function errorInWords({ kind, message, data }) {
  const facts = Object.entries(data ?? {})
    .filter(([name]) => name !== "kind" && name !== "plan")
    .map(([name, value]) => [printableName(name), excerpt(typeof value === "string" ? value : JSON.stringify(value))]);
  return { message: excerpt(message), facts, help: HELP[kind] ?? "" };
}

const printableName = (name) => excerpt(name).replaceAll("_", " ");
