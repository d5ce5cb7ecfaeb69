// The page's course: sign in, look, preview while the filter changes, delete what the preview showed, look again.
//
// The button that deletes is enabled only while the preview is of the filter as it stands. It sends the preview's plan,
// so that exactly what was shown goes, or nothing.

import { Batches } from "./batches.js";
import { byId, clear, notice, say } from "./dom.js";
import { Filter } from "./filter.js";
import { bytes, count, number } from "./format.js";
import { ReportView } from "./report.js";
import * as rpc from "./rpc.js";
import { Reclaim, showStore } from "./store.js";
import { TOP, UsageView, usageInWords } from "./usage.js";
import {
  batchesThatFollow,
  differences,
  errorInWords,
  filterInWords,
  isGone,
  whatIsGone,
  whatIsLeft,
  whatIsMissing,
  whatWent,
} from "./words.js";

/** The most ids, and entries of every other list, that a report names. */
const MAX_IDS = 200;
/** For how long the filter must rest before it is looked at. */
const REST_MS = 250;
/** The pauses between quiet attempts to reach a gateway that is gone; after the last there is the button. */
const PAUSES_S = [2, 4, 8, 15, 30, 60, 60, 60, 60];

const filter = new Filter(changed);
const usageView = new UsageView(filter);
const previewView = new ReportView("preview");
const outcomeView = new ReportView("report");
const reclaim = new Reclaim(ask, look);

/** The preview that the button stands for; null while it is not of the filter as it stands. */
let preview = null;
/** The last preview that was shown, fresh or not. */
let shown = null;
/** The deletion that goes on: its batches, and whether it is to stop; null between deletions. */
let run = null;
/** The batches that went with the filter as it stands. */
let batches = null;
/** A batch whose answer was lost; null once a preview of the same filter has told what became of it. */
let unanswered = null;
/** The usage of all of codescaler's jobs, once it is known. */
let all = null;

// --- Calls

/** Calls a method, and keeps what the page says of the connection true. */
async function ask(method, params, options) {
  try {
    const result = await rpc.call(method, params, options);
    connected();
    return result;
  } catch (error) {
    if (error.name !== "AbortError") {
      if (["signed_out", "link_used"].includes(error.kind)) signedOut(error);
      else if (["unreachable", "upstream_unreachable"].includes(error.kind)) disconnected(error);
      else if (error.kind !== "outcome_unknown") connected();
    }
    throw error;
  }
}

let attempts = 0;
let attempt;

function connected() {
  clearTimeout(attempt);
  if (attempts > 0) announce("Connected again.");
  attempts = 0;
  state("Connected", "good");
  clear("connection-notice");
}

function disconnected(error) {
  if (attempts === 0) {
    const who = error.kind === "unreachable" ? "The page’s server" : "The gateway, or hero_proc behind it,";
    const title = `${who} can’t be reached`;
    notice("connection-notice", title, errorInWords(error), () => refresh());
  }
  state("Not connected", "bad");
  clearTimeout(attempt);
  if (attempts < PAUSES_S.length) attempt = setTimeout(refresh, PAUSES_S[attempts] * 1000);
  attempts += 1;
}

function state(text, mood) {
  say("connection", text);
  byId("connection").dataset.mood = mood;
}

function signedOut(error) {
  state("Not signed in", "bad");
  const again =
    "Start “hero_proc_cleanup page” again, and open the link that it prints: each link works once, in one tab.";
  const told = {
    link_used: [
      "This link has already been used, or is not whole",
      `${again} If it was not you who used it, end that command first.`,
    ],
    signed_out: rpc.hasToken()
      ? ["This tab’s session has ended", again]
      : ["This tab is not signed in", `${again} On a dashboard, sign in there as an admin, and load this page again.`],
  };
  const [title, help] = told[error.kind];
  notice("connection-notice", title, { help });
  byId("content").hidden = true;
}

/** Tells a screen reader what has come of it, once things rest. */
let rest;
function announce(text) {
  clearTimeout(rest);
  rest = setTimeout(() => say("said", text), 700);
}

// --- Looking

let debounce;
/** How often the filter has changed. */
let changes = 0;
let previewing = null;
let using = null;

/** Looks at everything again. */
async function refresh() {
  clearTimeout(attempt);
  try {
    await rpc.signIn();
  } catch (error) {
    return error.kind === "link_used"
      ? signedOut(error)
      : disconnected(new rpc.CallError("unreachable", error.message));
  }
  byId("content").hidden = false;
  await look();
}

/** How often everything was looked at: the last look goes on, and those before it end. */
let looks = 0;

async function look() {
  looks += 1;
  const own = looks;
  all = null;
  // The button waits for the preview. The preview comes first, and is drawn before the next call loads the machine. Where
  // nobody answers, one attempt is enough.
  for (const part of [lookAtPreview, drawn, lookAtUsage, () => reclaim.look(), lookAtRetention]) {
    if (part !== lookAtPreview || run === null) await part();
    if (attempts > 0 || own !== looks) break;
  }
}

/** Waits until the browser has drawn what the page shows. A tab in the background is not drawn, and nothing waits for it. */
function drawn() {
  if (document.hidden) return;
  return new Promise((done) => requestAnimationFrame(() => setTimeout(done)));
}

/** The filter has changed: what is shown is of another one. */
function changed() {
  stale();
  batches = null;
  unanswered = null;
  byId("auto").checked = false;
  usageView.press();
  clearTimeout(debounce);
  changes += 1;
  const change = changes;
  debounce = setTimeout(async () => {
    await lookAtPreview();
    await drawn();
    // If the filter has changed again meanwhile, the last change looks.
    if (change === changes && attempts === 0) await lookAtUsage();
  }, REST_MS);
}

function stale() {
  previewing?.abort();
  preview = null;
  byId("preview").dataset.stale = "";
  say("preview-state", "Looking");
  showButton();
}

/** Looks what would go. The last look wins. */
async function lookAtPreview() {
  clearTimeout(debounce);
  stale();
  const params = filter.params();
  if (params === null) {
    say("preview-state", "The filter can’t be read");
    return null;
  }
  const looking = new AbortController();
  previewing = looking;
  try {
    const report = await ask(
      "jobs.cleanup",
      { ...params, max_ids: MAX_IDS, dry_run: true },
      { signal: looking.signal },
    );
    if (looking.signal.aborted) return null;
    preview = { params, report };
    shown = preview;
    clear("preview-notice");
    showPreview();
    if (unanswered !== null) showUnanswered(report);
    return report;
  } catch (error) {
    if (error.name === "AbortError") return null;
    say("preview-state", "No preview");
    failed(error, "There is no preview");
    if (unanswered !== null) showUnanswered(null);
    return null;
  }
}

function showPreview() {
  const { report } = preview;
  delete byId("preview").dataset.stale;
  say("preview-state", `as of ${new Date().toLocaleTimeString()}`);
  previewView.show(report, MAX_IDS);
  usageView.timeline.mark(report.cutoff_ms);
  showWords();
  showButton();
  const [jobs, actions] = [number(report.jobs_planned, "job"), number(report.actions_planned, "action")];
  announce(`Preview: ${jobs} and ${actions} would go, ${bytes(report.bytes_planned)}.`);
}

function showWords() {
  const { params, report } = preview;
  const none = report.jobs_matched === 0 && report.actions_planned === 0 && all !== null;
  say("preview-words", none ? `${filterInWords(params)} ${whatIsMissing(params, all, TOP)}` : filterInWords(params));
}

/** Looks what is there. The last look wins. */
async function lookAtUsage() {
  using?.abort();
  const looking = new AbortController();
  using = looking;
  const options = { signal: looking.signal };
  say("usage-state", "Looking");
  try {
    const tags = filter.tags();
    if (all === null) {
      all = await ask("jobs.usage", { top: TOP }, options);
      showStore(all);
      filter.offer(all);
      if (preview) showWords();
      filter.showPhases(all.by_phase.map((entry) => entry.value).filter(Boolean));
    }
    const these = Object.keys(tags).length === 0 ? all : await ask("jobs.usage", { ...tags, top: TOP }, options);
    if (looking.signal.aborted) return;
    clear("usage-notice");
    usageView.show(all, these);
    usageView.press();
    say("usage-state", usageInWords(these));
  } catch (error) {
    if (error.name === "AbortError") return;
    say("usage-state", "Not known");
    // A problem of a field is said beside it, by the preview.
    if (error.data?.param || rpc.isOfConnection(error)) return;
    notice("usage-notice", "Nobody knows what is there", errorInWords(error), () => lookAtUsage());
  }
}

/** Looks what retention does. Where there is none, its module is not even loaded. */
async function lookAtRetention() {
  const status = await rpc.retention().catch(() => null);
  byId("retention").hidden = !status;
  if (status) (await import("./retention.js")).showRetention(status);
}

/** Says what went wrong: beside its field, or above the preview. */
function failed(error, title) {
  const { param } = error.data ?? {};
  if (error.kind === "invalid_params" && param && filter.problem(param, error.message)) {
    say("preview-state", "The filter is refused");
    return clear("preview-notice");
  }
  if (rpc.isOfConnection(error)) return clear("preview-notice");
  notice("preview-notice", title, errorInWords(error), () => {
    clear("preview-notice");
    lookAtPreview();
  });
}

// --- Deleting

/** The button says what exactly it deletes, and can be pressed only while that is true. */
function showButton() {
  const button = byId("delete");
  const report = (preview ?? shown)?.report;
  const goes = report && (report.jobs_planned > 0 || report.actions_planned > 0);
  const force = (preview ?? shown)?.params.force && report.jobs_planned > 0;
  if (goes) {
    const what =
      report.jobs_planned > 0 ? number(report.jobs_planned, "job") : number(report.actions_planned, "action");
    const verb = force ? "Stop and delete" : "Delete";
    const next = batches !== null && report.jobs_planned > 0 ? "the next " : "";
    say("delete", `${verb} ${next}${what} · ${bytes(report.bytes_planned)}`);
  } else {
    say("delete", report ? "Nothing to delete" : "Delete");
  }
  button.disabled = preview === null || run !== null || !goes;
  const follow = report ? batchesThatFollow(report) : "";
  say("follow", report ? follow || "No batch would follow." : "–");
  byId("auto").disabled = follow === "" || run !== null;
  byId("force-warning").hidden = !force;
}

/** Deletes what the preview shows; and what follows, if that is asked for. */
async function begin() {
  const { params, report } = preview;
  const auto = byId("auto").checked && report.more;
  batches ??= new Batches(MAX_IDS);
  run = { stop: false };
  filter.locked = true;
  clear("preview-notice");
  byId("outcome").hidden = true;
  showButton();
  byId("act").hidden = true;
  byId("run").hidden = false;
  byId("stop").hidden = !auto;
  byId("stop").removeAttribute("aria-disabled");
  progress(report.jobs_planned + report.jobs_kept.over_limit);
  byId(auto ? "stop" : "run").focus();
  // What is known of the batch that runs: the preview that it was shown by, or how many jobs the one before it left.
  let before = { report };
  let next = { ...params, expect_plan: report.plan };
  let follows;
  let error = null;
  try {
    for (;;) {
      const done = await ask("jobs.cleanup", { ...next, max_ids: MAX_IDS }, { changes: true });
      follows = batches.add(done);
      before = { left: done.jobs_kept.over_limit };
      progress(batches.sum.jobs_deleted + before.left);
      if (follows !== "again" || !auto || run.stop) break;
      // What follows is bounded by the cut-off that was shown, however long it takes.
      next = { ...params };
      if (done.cutoff_ms !== null && next.older_than_ms !== undefined) {
        delete next.older_than_ms;
        next.before_ms = done.cutoff_ms;
      }
    }
  } catch (thrown) {
    const unread = () => new rpc.CallError("outcome_unknown", `the answer can't be read: ${thrown.message}`);
    error = thrown instanceof rpc.CallError ? thrown : unread();
  }
  ended();
  if (batches.calls > 0) finish(error === null ? follows : "failed");
  else batches = null;
  if (error === null) return look();
  await explain(error, before);
  byId("preview-notice").focus();
  await lookAtUsage();
}

function ended() {
  run = null;
  filter.locked = false;
  // The tick was for the batches that followed this one.
  byId("auto").checked = false;
  byId("act").hidden = false;
  byId("run").hidden = true;
  stale();
}

function progress(most) {
  const sum = batches.sum;
  const deleted = sum?.jobs_deleted ?? 0;
  byId("progress").max = Math.max(most, 1);
  byId("progress").value = deleted;
  const done = sum === null ? "The first batch" : `${count(deleted)} of ${number(most, "job")} deleted; the next batch`;
  say("run-says", `${done} is being deleted.`);
}

/** Shows the sum of the batches, and why it ended. */
function finish(follows) {
  const { sum, calls } = batches;
  const went = whatWent(sum);
  const of = calls > 1 ? `, in ${count(calls)} batches` : "";
  const waiting = sum.jobs_kept.over_limit;
  const left = waiting > 0 ? number(waiting, "job is", "jobs are") : "Actions that no job refers to are";
  const ends = {
    again: `${left} left for the next batch.`,
    stuck: `${left} left, and none of them could go.`,
    failed: "The last batch is not among them: see above.",
    done:
      sum.errors.length > 0
        ? "Some jobs stay that should have gone: the errors say why."
        : "Nothing that was asked for is left.",
  };
  byId("outcome").hidden = false;
  byId("outcome").dataset.mood = follows === "done" && sum.errors.length === 0 ? "good" : "warn";
  say("outcome-title", sum.jobs_deleted + sum.actions_deleted > 0 ? "Deleted" : "Nothing was deleted");
  say("outcome-says", `${went.replace(/^n/, "N")}${of}. ${ends[follows]}`);
  outcomeView.show(sum, MAX_IDS);
  byId("outcome-title").focus();
}

/** Says that a batch was not answered, and, once there is a preview `now`, what became of the batch. */
function showUnanswered(now) {
  const { report, left, message } = unanswered;
  let help = "The next preview tells whether it was.";
  if (now !== null) {
    help = report ? whatIsGone(report, now) : whatIsLeft(left, now);
    unanswered = null;
  }
  notice("preview-notice", "The answer was lost: the batch may have been deleted", { message, help });
}

/** Says why a batch failed, looks again, and says what has changed or gone. */
async function explain(error, before) {
  if (error.kind === "plan_changed") {
    notice("preview-notice", "The jobs have changed since the preview: nothing was deleted", {
      message: "Looking again.",
    });
    const now = await lookAtPreview();
    if (now === null) return;
    const { message, help } = errorInWords(error);
    // A browser sends a call again by itself if its connection ends unanswered: the first one may have done its work.
    const gone = isGone(before.report, now);
    const title = gone
      ? "The jobs of the preview are gone: another call deleted them, or this one, if the browser had to send it twice"
      : "The jobs have changed since the preview: nothing was deleted";
    notice("preview-notice", title, { message, facts: differences(before.report, now), help });
  } else if (error.kind === "outcome_unknown") {
    unanswered = { ...before, message: errorInWords(error).message };
    await lookAtPreview();
  } else {
    await lookAtPreview();
    failed(error, batches ? "The next batch failed" : "Nothing was deleted");
  }
}

// --- The beginning

byId("outcome-report").append(outcomeView.figures, outcomeView.details);
byId("preview-figures").append(previewView.figures);
byId("preview-details").append(previewView.details);
let refreshing;
byId("refresh").addEventListener("click", () => {
  attempts = 0;
  if (run === null) stale();
  // Clicks in a row look once: a look that has reached the store is not taken back.
  clearTimeout(refreshing);
  refreshing = setTimeout(refresh, REST_MS);
});
byId("delete").addEventListener("click", (event) => {
  // The second click of a double click may meet the preview of the next batch, which nobody has read.
  if (preview !== null && run === null && event.detail < 2) begin();
});
byId("stop").addEventListener("click", () => {
  run.stop = true;
  // Disabled, it would lose the focus.
  byId("stop").setAttribute("aria-disabled", "true");
  say("run-says", "Stopping: the batch that runs is completed, and no other begins.");
});
// A new link that is pasted into this tab changes nothing but the fragment.
addEventListener("hashchange", () => {
  if (rpc.secretOfLink() !== null) refresh();
});
addEventListener("beforeunload", (event) => {
  if (run !== null) event.preventDefault();
});
refresh();
