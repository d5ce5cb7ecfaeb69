// The timeline: jobs and bytes by the day of creation, as bars; those that the filter's cut-off lets go stand out.
//
// A range input lies over the drawing, so that a day is chosen by pointer, finger or arrow keys alike.

import { byId, element } from "./dom.js";
import { bytes, day, number } from "./format.js";

const DAY_MS = 86_400_000;
/** The most bars. Where there are more days than that, a bar is several days. */
const BARS = 180;
/** The height of the drawing's two halves: bytes upwards, jobs downwards from the line between them. */
const [UP, DOWN] = [64, 32];

/** The days from the oldest to the newest, each bar of the same number of days. Pure. */
export function bars(byDay) {
  if (byDay.length === 0) return { days: 1, bars: [] };
  const moments = byDay.map((entry) => entry.day_ms);
  const [first, last] = [Math.min(...moments), Math.max(...moments)];
  const days = Math.ceil(((last - first) / DAY_MS + 1) / BARS);
  const all = Array.from({ length: Math.floor((last - first) / (days * DAY_MS)) + 1 }, (_, index) => ({
    from_ms: first + index * days * DAY_MS,
    jobs: 0,
    bytes: 0,
  }));
  for (const entry of byDay) {
    const bar = all[Math.floor((entry.day_ms - first) / (days * DAY_MS))];
    bar.jobs += entry.jobs;
    bar.bytes += entry.bytes;
  }
  return { days, bars: all };
}

export class Timeline {
  #bars = [];
  #days = 1;
  #cutoff = null;
  #svg = svg("svg", { preserveAspectRatio: "none", "aria-hidden": "true", focusable: "false" });
  #range = element("input", {
    type: "range",
    min: "0",
    max: "0",
    value: "0",
    step: "1",
    "aria-label": "Day of creation",
    disabled: true,
  });
  #shown = element("p", { class: "readout" }, "–");
  #ends = element(
    "p",
    { class: "ends muted", "aria-hidden": "true" },
    element("span", {}, "–"),
    element("span", {}, "–"),
  );
  #use = element("button", { type: "button", class: "quiet", disabled: true }, "Only older ones");

  /** `before` is called with a day that is to be the cut-off. */
  constructor(place, before) {
    const head = element(
      "div",
      { class: "title" },
      element("h3", {}, "By day of creation"),
      element(
        "p",
        { class: "legend" },
        element("span", { class: "up" }, "size, upwards"),
        element("span", { class: "down" }, "jobs, downwards"),
      ),
    );
    byId(place).append(
      head,
      element("div", { class: "drawing" }, this.#svg, this.#range),
      this.#ends,
      element("div", { class: "line spread" }, this.#shown, this.#use),
    );
    this.#range.addEventListener("input", () => this.#point(this.#range.valueAsNumber));
    // The pointer chooses the bar under it, which the range's own arithmetic may miss by one.
    const at = (event) => {
      const { left, width } = this.#range.getBoundingClientRect();
      return Math.min(
        Math.max(Math.floor(((event.clientX - left) / width) * this.#bars.length), 0),
        this.#bars.length - 1,
      );
    };
    const choose = (event) => {
      if (this.#range.disabled || (event.type === "pointermove" && event.buttons === 0)) return;
      event.preventDefault();
      this.#range.focus({ focusVisible: false });
      this.#range.value = String(at(event));
      this.#point(this.#range.valueAsNumber);
    };
    this.#range.addEventListener("pointerdown", choose);
    this.#range.addEventListener("pointermove", choose);
    this.#use.addEventListener("click", () => before(day(this.#bars[this.#range.valueAsNumber].from_ms)));
  }

  /** Draws the days of a usage. */
  show(byDay) {
    ({ bars: this.#bars, days: this.#days } = bars(byDay));
    const there = this.#bars.length > 0;
    this.#range.disabled = !there;
    this.#use.disabled = !there;
    this.#range.max = String(Math.max(this.#bars.length - 1, 0));
    this.#range.value = this.#range.max;
    const [from, to] = this.#ends.children;
    from.textContent = there ? day(this.#bars[0].from_ms) : "no dated jobs";
    to.textContent = there ? day(this.#bars.at(-1).from_ms + (this.#days - 1) * DAY_MS) : "";
    this.#draw();
    if (there) this.#point(this.#bars.length - 1);
    else this.#shown.textContent = "No job has a day.";
  }

  /** Marks the bars up to `cutoff`; null where no cut-off bounds what goes. */
  mark(cutoff) {
    if (cutoff === this.#cutoff) return;
    this.#cutoff = cutoff;
    this.#draw();
  }

  #draw() {
    const highest = (name) => Math.max(1, ...this.#bars.map((bar) => bar[name]));
    const [mostBytes, mostJobs] = [highest("bytes"), highest("jobs")];
    const paths = { "up goes": "", "up stays": "", "down goes": "", "down stays": "" };
    this.#bars.forEach((bar, index) => {
      const which = this.#cutoff === null || bar.from_ms <= this.#cutoff ? "goes" : "stays";
      const rect = (y, height) => `M${index + 0.1} ${y}h0.8v${height.toFixed(2)}h-0.8z`;
      const up = (bar.bytes / mostBytes) * (UP - 2);
      const down = (bar.jobs / mostJobs) * (DOWN - 2);
      if (up > 0) paths[`up ${which}`] += rect(UP - Math.max(up, 0.8), Math.max(up, 0.8));
      if (down > 0) paths[`down ${which}`] += rect(UP + 1, Math.max(down, 0.8));
    });
    this.#svg.setAttribute("viewBox", `0 0 ${Math.max(this.#bars.length, 1)} ${UP + DOWN}`);
    this.#svg.replaceChildren(
      svg("rect", { class: "cursor", x: "-2", y: "0", width: "1", height: String(UP + DOWN) }),
      ...Object.entries(paths)
        .filter(([, d]) => d !== "")
        .map(([name, d]) => svg("path", { class: name, d })),
    );
    if (this.#bars.length > 0) this.#point(this.#range.valueAsNumber);
  }

  /** Reads the bar at `index` out. */
  #point(index) {
    const bar = this.#bars[index];
    const to = bar.from_ms + (this.#days - 1) * DAY_MS;
    const text = `${day(bar.from_ms)}${this.#days > 1 ? ` to ${day(to)}` : ""}: ${number(bar.jobs, "job")}, ${bytes(bar.bytes)}`;
    this.#shown.textContent = text;
    this.#range.setAttribute("aria-valuetext", text);
    this.#use.textContent = `Only those before ${day(bar.from_ms)}`;
    this.#svg.querySelector(".cursor")?.setAttribute("x", String(index));
  }
}

function svg(name, attributes) {
  const node = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  return node;
}
