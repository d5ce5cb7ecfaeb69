// Elements, and the lists that are shown page by page.
//
// Text is only ever set as text: nothing here, nor anywhere in the page, reads markup.

export const byId = (id) => document.getElementById(id);

/** An element with attributes and children. A function is the listener of its event; null and false are left out. */
export function element(name, attributes = {}, ...children) {
  const node = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (typeof value === "function") node.addEventListener(key, value);
    else if (value !== null && value !== false) node.setAttribute(key, value === true ? "" : value);
  }
  node.append(...children.filter((child) => child !== null));
  return node;
}

/** Sets the text of the element `id`, unless it is that already: a screen reader reads what is set. */
export function say(id, text) {
  const node = byId(id);
  if (node.textContent !== text) node.textContent = text;
}

/** How long the bar of `node` is, from 0 to 1. What is there at all has a bar that can be seen. */
export function setPart(node, part) {
  node.style.setProperty("--part", part > 0 ? Math.max(part, 0.004).toFixed(4) : "0");
}

/** A list of which a page is shown at a time. The focus stays on the entry, or the button, that has it. */
export class Paged {
  #entries = [];
  #first = 0;
  #shown = "";

  /** `label` names the list; `make` makes the `li` of an entry, and `pageLength` of them are a page. */
  constructor(label, pageLength, make) {
    this.pageLength = pageLength;
    this.make = make;
    this.list = element("ul", { "aria-label": label, role: "list" });
    this.where = element("span", {});
    const turn = (by) => () => {
      const first = this.#first + by;
      if (first < 0 || first >= this.#entries.length) return;
      this.#first = first;
      this.#draw();
    };
    this.back = element(
      "button",
      { type: "button", "aria-label": `${label}: previous page`, click: turn(-pageLength) },
      "‹",
    );
    this.on = element("button", { type: "button", "aria-label": `${label}: next page`, click: turn(pageLength) }, "›");
    this.pages = element("div", { class: "pages" }, this.back, this.where, this.on);
    this.node = element("div", { class: "paged" }, this.list, this.pages);
  }

  /** Shows `entries`, and `note` beside the page's number: such as that there are more than are listed. */
  show(entries, note = "") {
    const shown = JSON.stringify([entries, note]);
    if (shown === this.#shown) return;
    this.#shown = shown;
    this.#entries = entries;
    this.note = note;
    if (this.#first >= entries.length) this.#first = 0;
    this.#draw();
  }

  #draw() {
    const key = this.list.contains(document.activeElement) ? document.activeElement.dataset.key : undefined;
    const end = Math.min(this.#first + this.pageLength, this.#entries.length);
    this.list.replaceChildren(...this.#entries.slice(this.#first, end).map((entry) => this.make(entry)));
    if (key !== undefined)
      [...this.list.querySelectorAll("[data-key]")].find((node) => node.dataset.key === key)?.focus();
    const several = this.#entries.length > this.pageLength;
    this.where.textContent = several ? `${this.#first + 1}–${end} of ${this.#entries.length}${this.note}` : this.note;
    for (const [button, there] of [
      [this.back, this.#first > 0],
      [this.on, end < this.#entries.length],
    ]) {
      button.hidden = !several;
      // A button that is disabled would lose the focus in the middle of turning pages.
      button.setAttribute("aria-disabled", String(!there));
      button.disabled = !there && button !== document.activeElement;
    }
  }
}

/** What is wrong, or done, in `place`, in the words of `told`; with a button that tries again, if there is a way. */
export function notice(place, title, told = {}, again = null) {
  const { message = "", facts = [], help = "", calm = false } = told;
  const list = facts.map(([name, value]) => element("div", {}, element("dt", {}, name), element("dd", {}, value)));
  byId(place).replaceChildren(
    element(
      "div",
      { class: calm ? "notice calm" : "notice", role: calm ? "status" : "alert" },
      element("strong", {}, title),
      message && element("p", {}, message),
      list.length > 0 ? element("dl", { class: "plain" }, ...list) : "",
      help && element("p", {}, help),
      again ? element("button", { type: "button", click: again }, "Try again") : "",
    ),
  );
}

/** Joins each field of a form to what is said under it, and keeps the browser from spelling names. */
export function describeFields(form) {
  for (const under of form.querySelectorAll(".problem, .hint")) {
    const field = byId(under.id.replace(/-(problem|hint)$/, ""));
    const others = field.getAttribute("aria-describedby");
    field.setAttribute("aria-describedby", others ? `${others} ${under.id}` : under.id);
  }
  for (const field of form.querySelectorAll("input:not([type]), textarea")) {
    field.spellcheck = false;
  }
}

export const clear = (place) => byId(place).replaceChildren();
