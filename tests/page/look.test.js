// For everyone: what axe-core finds, the keyboard, narrow and wide windows, light and dark, and figures that stand still.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { after, before, test } from "node:test";

import { Hero, browser, job, many, open, previewed, tab } from "./support.js";

const AXE = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
const WIDTHS = [360, 1024, 2560];

const chromium = await browser();
let hero;
before(async () => {
  hero = await Hero.with(many(3000));
});
after(() => hero.end());

/** A tab that has opened a page of its own: a link works once. */
async function fresh(options) {
  await hero.page?.end();
  await hero.startPage();
  const page = await tab(chromium, options);
  await open(page, hero);
  return page;
}

/** What axe-core finds. */
async function axe(page) {
  await page.evaluate(AXE);
  const { violations, incomplete } = await page.evaluate(() => window.axe.run(document, { resultTypes: ["violations", "incomplete"] }));
  const told = ({ id, nodes }) => `${id}: ${nodes.slice(0, 3).map((node) => `${node.target} ${node.any.map((check) => check.message)}`).join("; ")}`;
  return { violations: violations.map(told), incomplete: incomplete.map(told) };
}

for (const width of WIDTHS) {
  for (const colorScheme of ["light", "dark"]) {
    test(`axe-core finds nothing, ${width} px wide, ${colorScheme}`, async () => {
      const page = await fresh({ viewport: { width, height: 900 }, colorScheme });
      const looked = async (state) => assert.deepEqual((await axe(page)).violations, [], state);
      await looked("at first");
      for (const details of await page.locator("details:not([open]) > summary").all()) {
        if (await details.isVisible()) await details.click();
      }
      await page.locator("#usage-lists [aria-label='Kind'] button.bar").first().click();
      await page.fill("#older_than_ms", "5y");
      await page.locator("#older_than_ms-problem", { hasText: "7d" }).waitFor();
      await looked("everything open, and a field that can't be read");
      await page.fill("#older_than_ms", "1d");
      await page.fill("#limit", "2");
      await page.locator("#force").check();
      await page.locator("#delete:enabled").waitFor();
      await looked("a preview with force");
      await page.locator("#force").uncheck();
      await page.locator("#delete:enabled", { hasText: "2 jobs" }).waitFor();
      await page.locator("#delete").click();
      await page.locator("#outcome").waitFor();
      await previewed(page);
      await looked("a report");
      await hero.gateway.end();
      await page.locator("#refresh").click();
      await page.locator("#connection-notice .notice").waitFor();
      await looked("not connected");
      await hero.startGateway();
      assert.deepEqual(page.faults, []);
      await page.context().close();
    });
  }
}

/** What may move in all: the words of the pill and of the legend, by a few pixels. From 0.1 on, readers are disturbed. */
const MOST_SHIFT = 0.002;

test("nothing is wider than the window, and nothing moves while figures arrive", async () => {
  const found = [];
  for (const width of [...WIDTHS, 3840]) {
    const page = await fresh({ viewport: { width, height: 900 } });
    await page.locator("#reclaim-says", { hasText: "The file would" }).waitFor();
    const shifts = await page.evaluate(() => window.shifts.filter((shift) => !shift.input));
    const [wide, inner] = await page.evaluate(() => [document.documentElement.scrollWidth, window.innerWidth]);
    if (shifts.reduce((sum, shift) => sum + shift.value, 0) > MOST_SHIFT || wide > inner) found.push({ width, wide, shifts: JSON.stringify(shifts) });
    await page.context().close();
  }
  assert.deepEqual(found, []);
});

test("long names and many of them: nothing is wider than the window, and what is shown and sent is bounded", async () => {
  const long = (letter, last) => letter.repeat(220) + last;
  const named = ["x", "y"].map((last) =>
    job({ kind: long("k", last), target: long("ü", last).slice(-100), actor: long("W", last), action: `codescaler_${long("a", last)}` }),
  );
  const values = 20_000;
  // Each job has a kind, a target and an actor of its own.
  const own = `UPDATE jobs SET tags = json_array('codescaler', 'codescaler_a' || id, 'codescaler_kind_k' || id, 'codescaler_target_t' || id)
    WHERE id <= ${values};`;
  const one = await Hero.with(`${many(values, { stderr: 20 })} ${own} ${named.join("")}`);
  const page = await tab(chromium, { viewport: { width: 360, height: 800 } });
  const answers = [];
  page.on("requestfinished", async (request) => answers.push((await request.sizes()).responseBodySize));
  await open(page, one);
  await page.locator("#clear").click();
  await page.fill("#actor", long("W", "x"));
  await page.locator("#delete:enabled", { hasText: "Delete 1 job" }).waitFor();
  await page.locator("#usage-state", { hasText: "1 job" }).waitFor();
  for (const state of ["a preview", "a report"]) {
    for (const details of await page.locator("details:not([open]) > summary").all()) {
      if (await details.isVisible()) await details.click();
    }
    const [wide, inner, nodes] = await page.evaluate(() => [document.documentElement.scrollWidth, window.innerWidth, document.querySelectorAll("*").length]);
    assert.ok(wide <= inner, `${state}: ${wide} px`);
    assert.ok(nodes < 2000, `${state}: ${nodes} elements`);
    if (state === "a report") break;
    await page.locator("#delete").click();
    await page.locator("#outcome-title:focus").waitFor();
    await previewed(page);
  }
  assert.ok(Math.max(...answers) < 100_000, `${Math.max(...answers)} bytes`);
  assert.deepEqual(page.faults, []);
  await page.context().close();
  await one.end();
});

test("nothing is animated, whatever the reader prefers", async () => {
  const page = await fresh({ reducedMotion: "no-preference" });
  const moved = await page.evaluate(() => {
    const moves = (node) => {
      const { animationName, transitionDuration, scrollBehavior } = getComputedStyle(node);
      return animationName !== "none" || transitionDuration !== "0s" || scrollBehavior !== "auto";
    };
    return [...document.querySelectorAll("*")].filter(moves).map((node) => node.outerHTML.slice(0, 80));
  });
  assert.deepEqual(moved, []);
  await page.context().close();
});

test("the keyboard does everything", async () => {
  const page = await fresh({ viewport: { width: 1024, height: 900 } });
  await page.keyboard.press("Tab");
  assert.match(await page.evaluate(() => document.activeElement.textContent), /Skip/);
  await page.keyboard.press("Enter");
  assert.equal(await page.evaluate(() => document.activeElement.id), "preview");
  /** Presses Tab until the element that has the focus is `selector`'s. */
  const reach = async (selector) => {
    for (let steps = 0; steps < 300; steps += 1) {
      await page.keyboard.press("Tab");
      if (await page.evaluate((selector) => document.activeElement.matches(selector), selector)) return;
    }
    assert.fail(`${selector} is never reached`);
  };
  await reach("#usage-lists [aria-label='Kind'] button.bar");
  await page.keyboard.press("Space");
  assert.notEqual(await page.inputValue("#kind"), "");
  assert.ok(await page.evaluate(() => document.activeElement.matches("button.bar[aria-pressed='true']")), "the focus stays on the bar");
  await page.locator("#delete:enabled").waitFor();
  await previewed(page);
  await page.locator("#kind").focus();
  await reach("#delete");
  const jobs = hero.count("jobs");
  await page.keyboard.press("Enter");
  await page.locator("#outcome-title:focus").waitFor();
  assert.ok(hero.count("jobs") < jobs);
  await page.context().close();
});

test("a screen reader hears what has come of a change", async () => {
  const page = await fresh();
  await page.locator("#said[role=status]", { hasText: /would go/ }).waitFor({ state: "attached" });
  await page.fill("#kind", "nothing of that name");
  await page.locator("#said", { hasText: /0 jobs/ }).waitFor({ state: "attached" });
  await page.context().close();
});

test("the first load is small, comes from one host, and leaves the console empty", async () => {
  await hero.page.end();
  await hero.startPage();
  const page = await tab(chromium);
  const sizes = [];
  const told = [];
  page.on("console", (message) => told.push(message.text()));
  page.on("requestfinished", async (request) => sizes.push([request.url(), await request.sizes()]));
  const last = page.waitForResponse(/\/status$/);
  await open(page, hero);
  await last;
  const files = sizes.filter(([url]) => !/\/(rpc|session|status)$/.test(url));
  const bytes = files.reduce((sum, [, size]) => sum + size.responseBodySize, 0);
  assert.ok(files.length > 5 && bytes <= 100_000, `${bytes} bytes in ${files.length} files`);
  assert.ok(page.asked.every((url) => url.startsWith(hero.base)), page.asked.join());
  // The browser itself tells of answers that are errors.
  await page.evaluate(() => console.info("the last word"));
  assert.deepEqual(told, ["the last word"]);
  await page.context().close();
});
