// What is there: lists of bars by kind, target, actor, phase, age and column. Most bars filter when they are clicked.
//
// The lists and the timeline show the jobs that the filter's kind, target and actor leave. The list of a field that is
// set shows all of codescaler's jobs, so that another value can be chosen.

import { Paged, byId, element, setPart } from "./dom.js";
import { age, bytes, count, excerpt, named, number } from "./format.js";
import { Timeline } from "./timeline.js";

/** The entries of a list that are asked for, and those that are shown at a time. */
export const TOP = 100;
const PAGE = 6;

/** A value with a line break can't stand in a field, an empty one is no filter. */
const choosable = (value) => typeof value === "number" || (Boolean(value) && !/[\r\n]/.test(value));

export class UsageView {
  #filter;
  #lists = {};

  constructor(filter) {
    this.#filter = filter;
    this.timeline = new Timeline("timeline", (day) => filter.before(day));
    const lists = {
      kind: "Kind",
      target: "Target",
      actor: "Actor",
      phases: "Phase",
      older_than_ms: "Age",
      column: "Column",
      largest: "Largest jobs",
    };
    for (const [field, title] of Object.entries(lists)) {
      const paged = new Paged(title, PAGE, (entry) => this.#row(field, entry));
      const of = element("span", { class: "muted" });
      const head = element("h3", {}, title, of);
      byId("usage-lists").append(element("section", { class: "card list", "aria-label": title }, head, paged.node));
      this.#lists[field] = { paged, of };
    }
  }

  /** Shows `these`, the jobs that the filter's tags leave; and of all jobs `all`, for a field that is set. */
  show(all, these) {
    const tags = this.#filter.tags();
    for (const field of ["kind", "target", "actor"]) {
      const usage = field in tags ? all : these;
      const entries = usage.by[field].map((entry) => this.#entry(entry, usage));
      this.#list(field, entries, field in tags && Object.keys(tags).length > 0 ? "of all jobs" : "");
    }
    this.#list(
      "phases",
      these.by_phase.map((entry) => ({ ...this.#entry(entry, these), none: "no text" })),
    );
    this.#list(
      "older_than_ms",
      these.by_age
        .filter((entry) => entry.jobs > 0)
        .map((entry) => this.#entry({ ...entry, value: entry.older_than_ms }, these)),
    );
    this.#list(
      "column",
      these.by_column.map((entry) => this.#entry(entry, these)),
    );
    const largest = these.largest[0]?.bytes ?? 1;
    this.#list(
      "largest",
      these.largest.map((job) => ({
        value: `${job.job_id}`,
        text: [job.job_id, job.phase, job.action_id].filter((part) => part !== null).join(" "),
        bytes: job.bytes,
        part: job.bytes / largest,
      })),
    );
    this.timeline.show(these.by_day);
  }

  /** Presses the bars that the filter names, and lets the others go. */
  press() {
    for (const [field, { paged }] of Object.entries(this.#lists)) {
      for (const button of paged.list.querySelectorAll("button[data-value]")) {
        const value = JSON.parse(button.dataset.value);
        button.setAttribute("aria-pressed", String(this.#filter.has(button.dataset.field ?? field, value)));
      }
    }
  }

  #list(field, entries, of = "") {
    const { paged, of: place } = this.#lists[field];
    place.textContent = of;
    paged.show(entries, entries.length >= TOP ? ", the largest" : "");
  }

  #entry(entry, usage) {
    return {
      value: entry.value,
      jobs: entry.jobs,
      bytes: entry.bytes,
      part: usage.bytes > 0 ? entry.bytes / usage.bytes : 0,
    };
  }

  #row(field, entry) {
    const name =
      field === "older_than_ms"
        ? `${age(entry.value)} or more`
        : entry.text !== undefined
          ? excerpt(entry.text)
          : named(entry.value, entry.none);
    const figures = [
      element("bdi", { class: "name", title: name.length > 24 ? name : null }, name),
      element(
        "span",
        { class: "jobs" },
        entry.jobs === undefined ? "" : count(entry.jobs),
        unseen(entry.jobs === undefined ? "" : entry.jobs === 1 ? " job, " : " jobs, "),
      ),
      element("span", { class: "size" }, bytes(entry.bytes)),
    ];
    const filters = !["column", "largest"].includes(field) && choosable(entry.value);
    const toggles = (to, properties, ...children) =>
      element(
        "button",
        {
          type: "button",
          "data-field": to,
          "data-value": JSON.stringify(entry.value),
          "data-key": `${to} ${JSON.stringify(entry.value)}`,
          "aria-pressed": String(this.#filter.has(to, entry.value)),
          click: () => this.#filter.toggle(to, entry.value),
          ...properties,
        },
        ...children,
      );
    const bar = filters ? toggles(field, { class: "bar" }, ...figures) : element("div", { class: "bar" }, ...figures);
    setPart(bar, entry.part);
    const except = `except_${field}`;
    if (byId(except) === null) return element("li", {}, bar);
    const keep = filters ? toggles(except, { class: "keep", title: "These stay" }, "keep", unseen(` ${name}`)) : "";
    return element("li", { class: "keeps" }, bar, keep);
  }
}

const unseen = (text) => element("span", { class: "unseen" }, text);

/** The jobs of a usage and what they weigh, in words. */
export function usageInWords(usage) {
  return `${number(usage.jobs, "job")}, ${bytes(usage.bytes)}`;
}
