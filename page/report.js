// A report for people: what goes or went by count, why the rest stays, and the lists that name them.

import { Paged, element } from "./dom.js";
import { bytes, count, excerpt, moment, number, span } from "./format.js";
import { JOBS_KEPT, actionReason } from "./words.js";

/** The entries of a list that are shown at a time. */
const PAGE = 10;

const text = (entry) => element("li", {}, element("bdi", {}, excerpt(entry)));

export class ReportView {
  /** The view's parts: the figures, and everything under them. */
  figures = element("dl", { class: "figures" });
  details = element("div", { class: "details" });

  #reasons = element("dl", { class: "reasons" });
  #nothing = element("p", { class: "muted" });
  #facts = element("p", { class: "says muted" });
  #lists;

  /** `of` names what is reported in the labels of lists: `preview` or `report`. */
  constructor(of) {
    const list = (title, make = text, pageLength = PAGE) => {
      const paged = new Paged(`${title}, ${of}`, pageLength, make);
      const heading = element("summary", {});
      const details = element("details", { hidden: true }, heading, paged.node);
      return { title, paged, heading, details };
    };
    this.#lists = {
      errors: list("Errors"),
      jobs: list("Jobs", (id) => element("li", { class: "id" }, String(id)), 5 * PAGE),
      actions: list("Actions"),
      kept: list("Actions that stay", ({ action_id: name, reason, by }) =>
        element(
          "li",
          {},
          element("bdi", {}, excerpt(name)),
          element("span", { class: "muted" }, `because of ${actionReason(reason)}${by ? `: ${excerpt(by)}` : ""}`),
        ),
      ),
      dependents: list("Rows of other tables", ([table, rows]) =>
        element("li", {}, `${number(rows, "row")} of table `, element("bdi", {}, excerpt(table))),
      ),
      asked: list("Understood as"),
    };
    const title = element("h3", {}, "Why the others stay");
    this.details.append(
      title,
      this.#reasons,
      this.#nothing,
      this.#facts,
      ...Object.values(this.#lists).map((part) => part.details),
    );
    this.show(null);
  }

  /** Shows `report`, whose lists have at most `maxIds` entries; null before the first. */
  show(report, maxIds) {
    const goes = report?.dry_run === false;
    const figure = (name, figure, under) =>
      element("div", {}, element("dt", {}, name), element("dd", {}, figure), element("dd", { class: "muted" }, under));
    this.figures.replaceChildren(
      figure(
        goes ? "jobs deleted" : "jobs go",
        report ? count(report.jobs_planned) : "–",
        report ? `of ${count(report.jobs_matched)} that match` : " ",
      ),
      figure(
        goes ? "actions deleted" : "actions go",
        report ? count(report.actions_planned) : "–",
        report?.actions_leaked > 0
          ? `${count(report.actions_leaked)} that no job refers to`
          : report?.actions_planned > 0
            ? "all of these jobs"
            : " ",
      ),
      figure(
        "in their rows",
        report ? bytes(report.bytes_planned) : "–",
        goes ? `${bytes(report.bytes_freed)} freed in the file` : "text and blobs",
      ),
    );
    if (!report) return;
    const kept = JOBS_KEPT.filter(([name]) => report.jobs_kept[name] > 0);
    this.#reasons.replaceChildren(
      ...kept.map(([name, words, rule]) =>
        element(
          "div",
          {},
          element("dt", {}, words, element("span", { class: "muted" }, rule)),
          element("dd", {}, count(report.jobs_kept[name])),
        ),
      ),
    );
    this.#nothing.textContent =
      kept.length > 0 ? "" : report.jobs_matched > 0 ? "No other job matches." : "No job matches.";
    this.#facts.textContent = facts(report);
    const would = goes ? "that went" : "that go";
    this.#list("errors", report.errors, report.errors.length, "Errors", maxIds);
    this.#list("jobs", report.job_ids, report.jobs_planned, `Jobs ${would}`);
    this.#list("actions", report.action_ids, report.actions_planned, `Actions ${would}`);
    this.#list("kept", report.actions_kept, report.actions_kept_count, "Actions that stay, and for whom");
    const dependents = Object.entries(report.dependents);
    this.#list("dependents", dependents, dependents.length, "Rows of other tables that go, or lose their job");
    this.#list("asked", Object.keys(report.asked).length > 0 ? [JSON.stringify(report.asked)] : [], 1, "Understood as");
  }

  /**
   * Shows a list of `all` entries of which `entries` are known, or hides it if there are none. With `most` entries there
   * may be more that nobody has counted.
   */
  #list(name, entries, all, title, most) {
    const { paged, heading, details } = this.#lists[name];
    details.hidden = entries.length === 0 && all === 0;
    const numbered = name === "asked" ? title : `${title} (${count(all)}${entries.length === most ? " or more" : ""})`;
    heading.textContent = numbered;
    paged.show(entries, entries.length < all ? ` listed, of ${count(all)}` : "");
  }
}

/** The cut-off, and what the call took. */
function facts(report) {
  const parts = [];
  if (report.cutoff_ms !== null)
    parts.push(`Only jobs created and ended by ${moment(report.cutoff_ms)}, and actions set by then.`);
  if (report.dry_run) parts.push(`Looked in ${span(report.duration_ms)}: nothing was deleted or locked.`);
  else parts.push(`In ${span(report.duration_ms)}, with the store’s write lock held for ${span(report.lock_ms)}.`);
  return parts.join(" ");
}
