// The filter: the form's fields, the params of `jobs.cleanup` that they stand for, and the problems beside them.
//
// A field's id is the name of its param, so that an error's `data.param` finds its place.

import { byId, describeFields, element, say } from "./dom.js";
import { Unreadable, age, named, number, parseAge, parseMoment, printable } from "./format.js";

const TAGS = ["kind", "target", "actor"];
const EXCEPT = ["except_kind", "except_target", "except_actor"];
/** The fields under "More filters", and what they are without a filter. */
const MORE = [...EXCEPT, "keep_last", "limit"];

const sameText = (a, b) => a.toLowerCase() === b.toLowerCase();

export class Filter {
  #phases = [];
  #known = [];
  #changed;

  /** `changed` is called after each change, by hand or by a bar that is clicked. */
  constructor(changed) {
    this.#changed = changed;
    describeFields(byId("filter"));
    byId("filter").addEventListener("input", (event) => {
      // One cut-off at a time.
      if (event.target.id === "older_than_ms") byId("before_ms").value = "";
      if (event.target.id === "before_ms" && event.target.value) byId("older_than_ms").value = "";
      changed();
    });
    byId("filter").addEventListener("submit", (event) => event.preventDefault());
    byId("clear").addEventListener("click", () => this.#clear());
  }

  /** The params of the filter; null if a field can't be read, which then says why. */
  params() {
    this.clearProblems();
    const params = {};
    for (const name of TAGS) {
      if (byId(name).value !== "") params[name] = byId(name).value;
    }
    for (const name of EXCEPT) {
      const lines = byId(name)
        .value.split("\n")
        .filter((line) => line !== "");
      if (lines.length > 0) params[name] = lines;
    }
    let readable = true;
    const read = (name, parse) => {
      const text = byId(name).value.trim();
      if (text === "") return;
      try {
        params[name] = parse(text);
      } catch (error) {
        if (!(error instanceof Unreadable)) throw error;
        readable = false;
        this.problem(name, error.message);
      }
    };
    read("older_than_ms", parseAge);
    read("before_ms", (text) => parseMoment(text, Date.now()));
    read("keep_last", parseCount);
    read("limit", parseCount);
    if (params.keep_last !== undefined)
      params.keep_by = ["kind", "target"].filter((name) => byId(`keep_by-${name}`).checked);
    if (this.#phases.length > 0) params.phases = [...this.#phases];
    if (!byId("leaked").checked) params.leaked = false;
    if (byId("force").checked) params.force = true;
    const more = MORE.filter((name) => params[name] !== undefined).length + (params.leaked === false);
    say("more-count", more > 0 ? `${number(more, "is", "are")} set` : "");
    return readable ? params : null;
  }

  /** The params that `jobs.usage` takes as well. */
  tags() {
    return Object.fromEntries(TAGS.map((name) => [name, byId(name).value]).filter(([, value]) => value !== ""));
  }

  /** Whether a bar is pressed. */
  has(field, value) {
    if (field === "phases") return this.#phases.some((phase) => sameText(phase, value));
    if (field === "older_than_ms") return byId(field).value.trim() === age(value);
    if (EXCEPT.includes(field)) return byId(field).value.split("\n").includes(value);
    return byId(field).value === value;
  }

  /** Presses a bar, or lets it go. */
  toggle(field, value) {
    const has = this.has(field, value);
    if (field === "phases") {
      this.#phases = has ? this.#phases.filter((phase) => !sameText(phase, value)) : [...this.#phases, value];
      this.showPhases(this.#known);
    } else if (EXCEPT.includes(field)) {
      const lines = byId(field)
        .value.split("\n")
        .filter((line) => line !== "" && line !== value);
      byId(field).value = (has ? lines : [...lines, value]).join("\n");
    } else {
      byId(field).value = has ? "" : field === "older_than_ms" ? age(value) : value;
      if (field === "older_than_ms") byId("before_ms").value = "";
    }
    this.#changed();
  }

  /** Sets the cut-off to a day. */
  before(day) {
    byId("older_than_ms").value = "";
    byId("before_ms").value = day;
    this.#changed();
  }

  /** Offers the values that the store has. One with hidden characters is left out: it is chosen by its bar. */
  offer(usage) {
    for (const field of TAGS) {
      const values = usage.by[field].map((entry) => entry.value).filter((value) => value && printable(value) === value);
      byId(`${field}-values`).replaceChildren(...values.map((value) => element("option", { value })));
    }
  }

  /** Offers the phases that the store has, and those that are chosen. */
  showPhases(phases) {
    this.#known = phases;
    const chosen = this.#phases.filter((phase) => !phases.some((known) => sameText(known, phase)));
    const chips = byId("phases-chips");
    const focused = chips.contains(document.activeElement) ? document.activeElement.value : undefined;
    chips.replaceChildren(
      ...[...phases, ...chosen].map((phase) => {
        const input = element("input", { type: "checkbox", value: phase, change: () => this.toggle("phases", phase) });
        input.checked = this.has("phases", phase);
        // The form hears of the phase by `toggle`.
        input.addEventListener("input", (event) => event.stopPropagation());
        return element("label", { class: "chip" }, input, element("bdi", {}, named(phase)));
      }),
    );
    if (focused !== undefined) [...chips.querySelectorAll("input")].find((input) => input.value === focused)?.focus();
  }

  /** Says beside the field of `param` what is wrong with it. False if there is no such field. */
  problem(param, message) {
    const place = byId(`${param}-problem`);
    if (place === null || !byId("filter").contains(place)) return false;
    // The field says which param it is.
    place.textContent = printable(message.replace(`param "${param}" `, ""));
    byId(param).setAttribute("aria-invalid", "true");
    if (byId("more").contains(place)) byId("more").open = true;
    return true;
  }

  clearProblems() {
    for (const place of byId("filter").querySelectorAll(".problem")) place.textContent = "";
    for (const field of byId("filter").querySelectorAll("[aria-invalid]")) field.removeAttribute("aria-invalid");
  }

  /** While a deletion runs, the filter stays what it was, and so do the bars that change it. */
  set locked(locked) {
    byId("filter-fields").disabled = locked;
    for (const part of ["usage", "reclaim"]) byId(part).inert = locked;
  }

  #clear() {
    for (const name of [...TAGS, ...MORE, "older_than_ms", "before_ms"]) byId(name).value = "";
    for (const [name, checked] of [
      ["leaked", true],
      ["force", false],
      ["keep_by-kind", true],
      ["keep_by-target", false],
    ]) {
      byId(name).checked = checked;
    }
    this.#phases = [];
    this.showPhases(this.#known);
    this.#changed();
  }
}

function parseCount(text) {
  const digits = text.replaceAll(",", "");
  if (!/^\d{1,15}$/.test(digits)) throw new Unreadable("this is no number");
  return Number(digits);
}
