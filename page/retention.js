// Retention's state: what the last pass of `retain` did, and whether it is in time. Loaded where the server knows it.
//
// Its form is that of `History` (src/policy/history.rs). A member that is missing is not shown.

import { byId, element, say } from "./dom.js";
import { bytes, count, excerpt, moment, number, span } from "./format.js";
import { jobsAndActions, reclaimReason } from "./words.js";

const ENDS = {
  done: "Every rule went through.",
  failed: "All rules were tried, and at least one ended with an error.",
  put_off: "The store was busy, or hero_proc could not be reached: it is tried again soon.",
  unknown: "A call was sent, and no answer came: the next pass finds what is left.",
  unconfirmed: "The policy has to be confirmed: nothing was deleted.",
};

/** Shows `status`. */
export function showRetention(status) {
  const [mood, state] = stateOf(status, Date.now());
  say("retention-state", state);
  byId("retention-state").dataset.mood = mood;
  const { last, rules = {}, reclaim = {}, waits_for: waits, clock_jump: jump } = status;
  byId("retention-says").replaceChildren(
    ...paragraphs([
      status.succeeded_ms
        ? `It last did everything at ${moment(status.succeeded_ms)}.`
        : "No pass has done everything yet.",
      status.failures > 0 &&
        `${number(status.failures, "pass", "passes")} since then ${status.failures === 1 ? "has" : "have"} not.`,
      status.behind && "It does not keep up: a pass had not ended when the next one was due.",
      waits &&
        `A policy waits to be confirmed: it would take ${number(waits.jobs_planned, "job")} of ${count(waits.jobs_total)}. ` +
          `Run “hero_proc_cleanup retain --once --yes”, or write confirmed = "${excerpt(waits.digest)}" into the policy.`,
      last &&
        `The last pass ended at ${moment(last.ended_ms)}: ${ENDS[last.end] ?? "It ended otherwise."} ` +
          `${jobsAndActions(last.jobs, last.actions, 0) || "Nothing"} went, ${bytes(last.bytes)} freed; the write lock was held for ${span(last.lock_ms)}, at most ${span(last.longest_lock_ms)} at once.`,
      last?.error && failure("The pass’s last error", last.error),
      reclaim.at_ms &&
        `Space was last looked at or given back at ${moment(reclaim.at_ms)}: ${bytes(reclaim.bytes)}${reclaim.reason ? `, ${reclaimReason(reclaim.reason)}` : ""}.`,
      reclaim.error && failure("Giving space back failed", reclaim.error),
      jump && `The clock has gone back by ${span(jump.by_ms)} at ${moment(jump.at_ms)}.`,
    ]),
    table(
      "Rules, and what each did in its last pass",
      ["rule", "jobs", "freed", "jobs ever", "last success"],
      Object.entries(rules).map(([rule, did]) => [
        excerpt(rule),
        count(did.jobs),
        bytes(did.bytes),
        count(did.jobs_ever),
        did.succeeded_ms ? moment(did.succeeded_ms) : "never",
        did.error
          ? failure("Error", did.error)
          : did.referenced > 0
            ? `${number(did.referenced, "job")} held by a foreign key`
            : null,
      ]),
    ),
    table(
      "What the policy would take",
      ["rule", "jobs", "size"],
      (waits?.rules ?? []).map((rule) => [excerpt(rule.rule), count(rule.jobs), bytes(rule.bytes), null]),
    ),
  );
}

/** The state in two or three words, and whether it is good. */
function stateOf(status, now) {
  const {
    waits_for: waits,
    behind,
    failures,
    succeeded_ms: succeeded,
    first_ms: first,
    every_ms: every,
    started_ms: started,
    ended_ms: ended,
  } = status;
  const since = succeeded ?? first;
  if (status.overdue || (every && since && now - since > 3 * every)) return ["bad", "Overdue"];
  if (waits) return ["warn", "Waits to be confirmed"];
  if (behind) return ["warn", "Behind"];
  if (failures > 0) return ["warn", "Not all done"];
  if (started && started > (ended ?? 0)) return ["good", "A pass goes on"];
  return succeeded ? ["good", "In time"] : ["warn", "No pass yet"];
}

const failure = (title, { at_ms: at, kind, message }) =>
  `${title} (${moment(at)}, ${excerpt(kind)}): ${excerpt(message)}`;
const paragraphs = (texts) => texts.filter(Boolean).map((text) => element("p", { class: "says" }, text));

/** A table; the last text of a row, if there is one, is a line of its own under it. */
function table(caption, columns, rows) {
  if (rows.length === 0) return "";
  const lines = rows.flatMap((cells) => {
    const under = cells.at(-1);
    const row = element(
      "tr",
      {},
      ...cells
        .slice(0, -1)
        .map((text, index) => element(index === 0 ? "th" : "td", index === 0 ? { scope: "row" } : {}, text)),
    );
    return under
      ? [row, element("tr", {}, element("td", { class: "under", colspan: String(columns.length) }, under))]
      : [row];
  });
  const head = element("tr", {}, ...columns.map((name) => element("th", { scope: "col" }, name)));
  return element(
    "div",
    { class: "wide", tabindex: "0", role: "region", "aria-label": caption },
    element("table", {}, element("caption", {}, caption), element("thead", {}, head), element("tbody", {}, ...lines)),
  );
}
