// From the link to an empty store, and everything that can come in between.

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { chmodSync, chownSync, writeFileSync } from "node:fs";
import { connect, createServer } from "node:net";
import { join } from "node:path";
import { after, describe, test } from "node:test";

import { bytes, count, share } from "../../page/format.js";
import { BINARY, browser, calls, Hero, job, many, open, previewed, shows, tab } from "./support.js";

const chromium = await browser();

/** Runs `story` in a tab of its own, in front of a store that `sql` fills. */
function story(name, sql, tells, options) {
  test(name, async () => {
    const hero = await Hero.with(sql, options);
    const page = await tab(chromium);
    try {
      await tells(page, hero);
      assert.deepEqual(page.faults, []);
      assert.deepEqual(page.asked.filter((url) => !url.startsWith(hero.base)), [], "nothing is asked of another host");
    } finally {
      await page.context().close();
      await hero.end();
    }
  });
}

/** Presses the button, and waits for what came of it. */
async function remove(page) {
  // What the deletion before said would be taken for what this one says.
  await page.evaluate(() => document.getElementById("outcome-says").replaceChildren());
  await page.locator("#delete").click();
  await page.locator("#outcome-says", { hasText: /./ }).waitFor();
  await previewed(page);
}

story("from the link to an empty store", many(600) + job({ action: "ops_backup", tags: ["ops"] }), async (page, hero) => {
  await open(page, hero);
  await shows(page, "#connection", /^Connected$/);
  assert.equal(page.url(), hero.base, "the secret has left the address");
  await shows(page, "#fact-jobs", /^600$/);
  const before = hero.dump();

  // A bar is a filter, and so are the fields; nothing is deleted by looking.
  await page.locator("#usage-lists [aria-label='Kind'] button.bar", { hasText: "build" }).click();
  assert.equal(await page.inputValue("#kind"), "build");
  await previewed(page);
  const old = Number(hero.read("SELECT count(*) FROM jobs WHERE tags LIKE '%kind_build%' AND phase <> 'running' AND created_at_ms <= (unixepoch('now') - 30 * 86400) * 1000")[0]);
  await page.fill("#older_than_ms", "30d");
  await page.locator("#delete", { hasText: `Delete ${old} jobs` }).waitFor();
  await previewed(page);
  await shows(page, "#preview-figures", new RegExp(`jobs go\\s+${old}\\s+of 200 that match`));
  assert.equal(hero.dump(), before);

  await remove(page);
  await shows(page, "#outcome", new RegExp(`Deleted[^]*${old} jobs`));
  assert.equal(hero.count("jobs"), 601 - old);
  assert.equal(hero.count("jobs", `tags LIKE '%kind_build%'`), 200 - old);

  // All that has finished, whatever its age.
  await page.locator("#clear").click();
  const rest = 600 - old - 2;
  await page.locator("#delete", { hasText: `Delete ${rest} jobs` }).waitFor();
  await remove(page);
  await shows(page, "#preview-details", /not finished[^]*2/);
  assert.deepEqual(hero.read("SELECT phase FROM jobs WHERE tags LIKE '%codescaler%'"), ["running", "running"]);

  // What ran has ended meanwhile: the store is empty but for what is not codescaler's.
  hero.write("UPDATE jobs SET phase = 'failed' WHERE phase = 'running'");
  await page.locator("#refresh").click();
  await page.locator("#delete", { hasText: /^Delete (the next )?2 jobs/ }).waitFor();
  await remove(page);
  await page.locator("#delete:disabled", { hasText: "Nothing to delete" }).waitFor();
  assert.deepEqual(hero.read("SELECT action FROM jobs"), ["ops_backup"]);
  assert.deepEqual(hero.read("SELECT name FROM actions"), ["ops_backup"]);
  await page.locator("#fact-jobs", { hasText: /^0$/ }).waitFor();
});

story("the figures are those of the commands", many(600), async (page, hero) => {
  const command = (...args) => JSON.parse(execFileSync(BINARY, [...args, "-o", "json", "--socket", hero.socket], { encoding: "utf8" }));
  await open(page, hero);
  const usage = command("jobs-usage");
  const { file_bytes: file, wal_bytes: wal, free_bytes: free } = usage.store;
  const text = (selector) => page.locator(selector).innerText();
  await page.locator("#reclaim-says", { hasText: "The file would" }).waitFor();
  for (const [id, figure] of [
    ["jobs", count(usage.jobs)], ["finished", `${count(usage.finished)} finished`], ["actions", count(usage.actions)],
    ["leaked", `${count(usage.actions_leaked)} leaked`], ["file", bytes(file)], ["wal", wal > 0 ? `and a WAL of ${bytes(wal)}` : "and no WAL"],
    ["free", bytes(free)], ["free-share", `${share(free, file)} of the file`],
  ]) {
    assert.equal(await text(`#fact-${id}`), figure, id);
  }
  for (const [list, entries] of [["Kind", usage.by.kind], ["Target", usage.by.target], ["Actor", usage.by.actor], ["Phase", usage.by_phase]]) {
    const bars = await page.locator(`#usage-lists [aria-label='${list}'] ul .bar`).allInnerTexts();
    assert.deepEqual(bars.map((bar) => bar.split(/\s{1,}/).filter((word) => !/^jobs?,?$/.test(word)).join(" ")),
      entries.map((entry) => `${entry.value} ${count(entry.jobs)} ${bytes(entry.bytes)}`), list);
  }
  const report = command("jobs-cleanup", "--older-than", "7d", "--dry-run");
  await shows(page, "#preview-figures", new RegExp(`jobs go\\s+${count(report.jobs_planned)}\\s+of ${count(report.jobs_matched)} that match`));
  assert.equal(await text("#delete"), `Delete ${count(report.jobs_planned)} jobs · ${bytes(report.bytes_planned)}`);
  await shows(page, "#preview-details", new RegExp(`not finished[^]*${report.jobs_kept.active}`));
  await shows(page, "#preview-details", new RegExp(`too recent[^]*${report.jobs_kept.recent}`));
});

story("each bar is a filter, and so is a day of the timeline", many(600), async (page, hero) => {
  await open(page, hero);
  await page.locator("#clear").click();
  const goes = (where) => hero.count("jobs", `phase <> 'running' AND ${where}`);
  /** Waits for the preview of the finished jobs where `where` holds. */
  const shown = async (where) => {
    await page.locator("#delete:enabled", { hasText: `Delete ${goes(where)} jobs ·` }).waitFor();
    await previewed(page);
  };
  const all = goes("1");
  for (const [list, bar, where] of [
    ["Kind", "release", "tags LIKE '%kind_release%'"],
    ["Target", "api", "tags LIKE '%target_api%'"],
    ["Actor", "ben", "tags LIKE '%codescaler_ben\"%'"],
    ["Phase", "failed", "phase = 'failed'"],
    ["Age", "30d or more", "created_at_ms <= (unixepoch('now') - 30 * 86400) * 1000"],
  ]) {
    assert.ok(goes(where) > 0 && goes(where) < all, list);
    const bars = page.locator(`#usage-lists [aria-label='${list}']`).locator("button.bar", { hasText: bar });
    await bars.click();
    await shown(where);
    assert.equal(await bars.getAttribute("aria-pressed"), "true", list);
    await bars.click();
    await shown("1");
  }
  const keep = page.locator("#usage-lists [aria-label='Kind'] button.keep", { hasText: "test" });
  await keep.click();
  await shown("tags NOT LIKE '%kind_test%'");
  assert.equal(await page.inputValue("#except_kind"), "test");
  await keep.click();
  await shown("1");

  const timeline = page.locator("#timeline input[type=range]");
  await timeline.focus();
  for (let days = 0; days < 30; days += 1) await page.keyboard.press("ArrowLeft");
  const day = /^\d{4}-\d\d-\d\d/.exec(await page.locator("#timeline .readout").innerText())[0];
  await page.locator("#timeline button", { hasText: `Only those before ${day}` }).click();
  assert.equal(await page.inputValue("#before_ms"), day);
  await shown(`created_at_ms <= unixepoch('${day}') * 1000`);
  // Where the pointer is, its bar is read out, and nothing else changes.
  const { x, y, width, height } = await timeline.boundingBox();
  await page.mouse.click(x + width * 0.01, y + height / 2);
  const [oldest] = hero.read("SELECT date(min(created_at_ms) / 1000, 'unixepoch') FROM jobs");
  const readout = await page.locator("#timeline .readout").innerText();
  assert.ok(readout >= oldest && readout < day, `${readout}, ${oldest}`);
  assert.equal(await page.inputValue("#before_ms"), day);
});

story("the preview is asked for first and alone, once for what is typed, and its last answer wins", many(600), async (page, hero) => {
  const seen = calls(page);
  await page.goto(hero.link);
  await page.locator("#reclaim-says", { hasText: "The file would" }).waitFor();
  assert.deepEqual(seen.splice(0), [
    "→ dry jobs.cleanup", "← dry jobs.cleanup", "→ jobs.usage", "← jobs.usage", "→ dry jobs.reclaim", "← dry jobs.reclaim",
  ]);
  await page.locator("#kind").pressSequentially("build");
  await page.locator("#usage-state", { hasText: "200 jobs" }).waitFor();
  assert.deepEqual(seen.splice(0), ["→ dry jobs.cleanup", "← dry jobs.cleanup", "→ jobs.usage", "← jobs.usage"]);

  // The answer for one target is late: it comes after the answer for another.
  let release;
  const late = new Promise((comes) => {
    release = comes;
  });
  const answered = new Promise((comes) => {
    page.route("**/rpc", async (route) => {
      if (!route.request().postData().includes('"target":"web"')) return route.continue();
      const response = await route.fetch();
      await late;
      // The page may have dropped the call.
      await route.fulfill({ response }).catch(() => {});
      comes();
    });
  });
  const asked = page.waitForRequest((request) => request.postData()?.includes('"target":"web"') ?? false);
  await page.fill("#target", "web");
  await asked;
  assert.ok(await page.locator("#delete").isDisabled(), "the button is of no preview yet");
  await page.fill("#target", "api");
  await page.locator("#delete:enabled").waitFor();
  await page.locator("#usage-state", { hasText: "67 jobs" }).waitFor();
  const shown = () => page.locator("#preview").innerText();
  const before = await shown();
  assert.match(before, /with target api/);
  release();
  await answered;
  assert.equal(await shown(), before);
});

story("clicks on Refresh in a row look once", many(60), async (page, hero) => {
  // The last of all that is asked for.
  const status = () => page.waitForResponse(/\/status$/);
  const first = status();
  await open(page, hero);
  await first;
  const seen = calls(page);
  const last = status();
  for (let clicks = 0; clicks < 10; clicks += 1) await page.evaluate(() => document.getElementById("refresh").click());
  assert.ok(await page.locator("#delete").isDisabled());
  await last;
  assert.deepEqual(seen.filter((call) => call.startsWith("→")), ["→ dry jobs.cleanup", "→ jobs.usage", "→ dry jobs.reclaim"]);
});

story("nothing is deleted by Enter in a field, nor by the second click of a double click", many(60), async (page, hero) => {
  await open(page, hero);
  const before = hero.dump();
  for (const field of ["#kind", "#older_than_ms", "#limit"]) {
    if (field === "#limit") await page.locator("#more summary").click();
    await page.focus(field);
    await page.keyboard.press("Enter");
  }
  await page.fill("#limit", "5");
  // A preview is in flight.
  await page.keyboard.press("Enter");
  await page.locator("#delete:enabled", { hasText: "Delete 5 jobs" }).waitFor();
  await page.locator("#delete").scrollIntoViewIfNeeded();
  await page.locator("#delete").hover();
  await page.mouse.down({ clickCount: 2 });
  await page.mouse.up({ clickCount: 2 });
  await page.locator("#refresh").click();
  await previewed(page);
  assert.ok(hero.dump() === before);
  await page.locator("#delete").dblclick();
  await page.locator("#outcome-title:focus").waitFor();
  await page.locator("#delete:enabled", { hasText: "the next 5 jobs" }).waitFor();
  assert.equal(hero.count("jobs"), 55);
});

story("whoever comes back finds the filter that the preview is of", many(600), async (page, hero) => {
  const state = () => page.evaluate(() => {
    const fields = [...document.querySelectorAll(":is(#filter, #preview, #reclaim) :is(input, textarea)")];
    return fields.filter((field) => (field.type === "checkbox" ? field.checked !== field.defaultChecked : field.value !== field.defaultValue)).map((field) => field.id || field.value);
  });
  await open(page, hero);
  for (const comesBack of [() => page.reload(), async () => {
    await page.goto("about:blank");
    await page.goBack();
  }]) {
    await page.fill("#kind", "build");
    await page.locator("#phases-chips label", { hasText: "failed" }).click();
    await page.locator("#more > summary").click();
    await page.fill("#except_target", "web");
    await page.fill("#limit", "5");
    await page.locator("#keep_by-target").check();
    await page.locator("#leaked").uncheck();
    await page.locator("#force").check();
    await page.locator("#always").check();
    await page.locator("#delete:enabled", { hasText: "delete 5 jobs" }).waitFor();
    await page.locator("#auto").check();
    assert.equal((await state()).length, 9);
    await comesBack();
    await page.locator("#phases-chips label", { hasText: "failed" }).waitFor();
    await previewed(page);
    assert.deepEqual(await state(), []);
    await shows(page, "#preview-words", /^All of codescaler’s finished jobs, created and ended at least 7d ago\.$/);
  }
});

story("batches end with the tab, and with the gateway", many(3000), async (page, hero) => {
  const beginAll = async () => {
    await page.locator("#clear").click();
    if (!(await page.locator("#limit").isVisible())) await page.locator("#more > summary").click();
    await page.fill("#limit", "5");
    await page.locator("#delete:enabled", { hasText: "5 jobs" }).waitFor();
    await previewed(page);
    await page.locator("#auto").check();
    await page.locator("#delete").click();
    await page.locator("#run-says", { hasText: "the next batch is being deleted" }).waitFor();
  };
  await open(page, hero);
  await beginAll();
  // The browser asks first.
  page.removeAllListeners("dialog");
  const dialog = page.waitForEvent("dialog");
  const reloaded = page.reload();
  assert.equal((await dialog).type(), "beforeunload");
  await (await dialog).accept();
  await reloaded;
  await previewed(page);
  await page.locator("#usage-lists .bar").first().waitFor();
  // A batch that was sent is carried out, and no other one begins.
  await page.locator("#refresh").click();
  await page.locator("#reclaim-says", { hasText: "The file would" }).waitFor();
  const left = hero.count("jobs");
  assert.ok(left > 2 && left < 3000 && left % 5 === 0, `${left} are left`);
  assert.ok(!(await page.locator("#auto").isChecked()));

  await beginAll();
  await hero.gateway.end();
  await page.locator("#outcome-says", { hasText: "The last batch is not among them" }).waitFor();
  await page.locator("#connection-notice .notice", { hasText: "can’t be reached" }).waitFor();
  const then = hero.count("jobs");
  assert.ok(then > 2 && then < left, `${then} are left of ${left}`);
  assert.ok(await page.locator("#delete").isDisabled());
  await hero.startGateway();
  await page.locator("#delete:enabled", { hasText: "Delete the next 5 jobs" }).waitFor();
  assert.ok(!(await page.locator("#auto").isChecked()), "no batch is taken up again");
  assert.equal(hero.count("jobs"), then);
});

story("retention's status is shown", many(600), async (page, hero) => {
  const policy = join(hero.directory, "policy.toml");
  writeFileSync(policy, 'every = "1h"\n[[rule]]\nkind = "build"\nolder_than = "30d"\n');
  await open(page, hero);
  assert.ok(!(await page.locator("#retention").isVisible()), "there is none");
  execFileSync(BINARY, ["retain", "--policy", policy, "--once", "--yes", "--state", hero.state, "--socket", hero.socket], { stdio: "ignore" });
  const gone = 600 - hero.count("jobs");
  assert.ok(gone > 0);
  await page.locator("#refresh").click();
  await shows(page, "#retention-state", /^In time$/);
  await shows(page, "#retention-says", new RegExp(`Every rule went through\\. ${gone} jobs`));
  await shows(page, "#retention table", new RegExp(`build[^]*${gone}`));
});

story("space is given back", many(4000, { stderr: 8000 }), async (page, hero) => {
  await open(page, hero);
  await page.locator("#clear").click();
  await page.locator("#delete", { hasText: "Delete 3,998 jobs" }).waitFor();
  await remove(page);
  const size = () => Number(hero.read("SELECT page_count * page_size FROM pragma_page_count, pragma_page_size")[0]);
  const large = size();
  await page.locator("#reclaim-button:enabled", { hasText: "Give " }).click();
  await page.locator("#reclaim-notice", { hasText: "Space was given back" }).waitFor();
  assert.ok(size() < large / 10, `${size()} of ${large}`);
  await page.locator("#fact-free", { hasText: /^(0|\d+(\.\d+)?) (B|KB|kB|KiB|bytes)$/ }).waitFor();
});

story("a store that has changed since the preview is shown again, and nothing is deleted", many(50), async (page, hero) => {
  await open(page, hero);
  await page.locator("#clear").click();
  await page.locator("#delete", { hasText: "Delete 48 jobs" }).waitFor();
  await previewed(page);
  hero.write(job({ action: "codescaler_late", days: 1 }));
  const before = hero.dump();
  await page.locator("#delete").click();
  const notice = page.locator("#preview-notice .notice", { hasText: "now 49" });
  await notice.waitFor();
  assert.match(await notice.innerText(), /The jobs have changed since the preview: nothing was deleted/);
  assert.equal(hero.dump(), before);
  await page.locator("#delete", { hasText: "Delete 49 jobs" }).waitFor();
  await remove(page);
  assert.equal(hero.count("jobs"), 2);
});

story("batches follow only if that is asked for, and stop between two", many(1500), async (page, hero) => {
  await open(page, hero);
  await page.locator("#clear").click();
  await page.locator("#more summary").click();
  await page.fill("#limit", "5");
  await page.locator("#delete", { hasText: "Delete 5 jobs" }).waitFor();
  await previewed(page);
  await shows(page, "#follow", /^About 299 more batches would follow/);
  await remove(page);
  assert.equal(hero.count("jobs"), 1495, "the box is not ticked");
  await shows(page, "#delete", /Delete the next 5 jobs/);

  await page.locator("#auto").check();
  await page.locator("#delete").click();
  await page.locator("#run-says", { hasText: "the next batch is being deleted" }).waitFor();
  await page.locator("#stop").click();
  await page.locator("#outcome-title:focus").waitFor();
  await previewed(page);
  const left = hero.count("jobs");
  assert.ok(left > 2 && left < 1495 && left % 5 === 0, `${left} are left`);
  const deleted = (1500 - left).toLocaleString("en");
  await shows(page, "#outcome-says", new RegExp(`${deleted} jobs[^]*batches[^]*left`, "i"));
  const before = hero.dump();
  await page.locator("#refresh").click();
  await previewed(page);
  assert.equal(hero.dump(), before, "no batch goes on");

  await page.fill("#limit", "400");
  await page.locator("#delete", { hasText: "Delete 400 jobs" }).waitFor();
  await previewed(page);
  await page.locator("#auto").check();
  await remove(page);
  assert.equal(hero.count("jobs"), 2);
  await shows(page, "#outcome-says", /Nothing that was asked for is left|that was asked for/);
});

story("a gateway that is gone is told, and comes back by itself", many(20), async (page, hero) => {
  await open(page, hero);
  await hero.gateway.end();
  await page.locator("#refresh").click();
  const notice = page.locator("#connection-notice .notice");
  await notice.waitFor();
  assert.match(await notice.innerText(), /can’t be reached/);
  await shows(page, "#connection", /^Not connected$/);
  assert.ok(await page.locator("#delete").isDisabled());
  await hero.startGateway();
  await page.locator("#connection", { hasText: /^Connected$/ }).waitFor();
  await notice.waitFor({ state: "detached" });
  await page.locator("#delete:enabled").waitFor();
  const jobs = hero.count("jobs");
  await hero.gateway.end();
  const before = hero.dump();
  await page.locator("#delete").click();
  await notice.waitFor();
  assert.equal(hero.dump(), before);
  await hero.startGateway();
  await page.locator("#delete:enabled").waitFor();
  await remove(page);
  assert.ok(hero.count("jobs") < jobs);
});

story("a call whose answer is lost is sent once, and what became of it is looked up", many(40), async (page, hero) => {
  // In front of the page's server, as `ssh -L` is: it passes a deletion on, and ends the connection instead of answering.
  const port = Number(new URL(hero.base).port);
  let deletions = 0;
  const tunnel = createServer((near) => {
    const far = connect(port, "127.0.0.1");
    near.on("error", () => far.destroy());
    far.on("error", () => near.destroy());
    let lost = false;
    near.on("data", (bytes) => {
      if (bytes.includes("expect_plan")) {
        deletions += 1;
        lost = true;
      }
      far.write(bytes);
    });
    far.on("data", (bytes) => (lost ? near.destroy() : near.write(bytes)));
    far.on("close", () => near.end());
  }).listen(0, "127.0.0.1");
  await new Promise((listens) => tunnel.once("listening", listens));
  const direct = hero.base;
  hero.base = `http://127.0.0.1:${tunnel.address().port}/`;
  hero.link = hero.link.replace(direct, hero.base);
  await open(page, hero);
  await page.locator("#clear").click();
  await page.locator("#delete:enabled", { hasText: "Delete 38 jobs" }).waitFor();
  await previewed(page);
  await page.locator("#delete").click();
  await page.locator("#preview-notice .notice", { hasText: /The batch was deleted/ }).waitFor();
  await shows(page, "#preview-notice", /answer was lost/);
  assert.equal(deletions, 1);
  assert.equal(hero.count("jobs"), 2);
  tunnel.close();
});

story("a page whose server has ended says so", many(20), async (page, hero) => {
  await open(page, hero);
  await hero.page.end("SIGINT");
  await page.locator("#refresh").click();
  await page.locator("#connection-notice .notice", { hasText: "The page’s server can’t be reached" }).waitFor();
  assert.ok(await page.locator("#delete").isDisabled());
});

story("a filter that can't be read, or is refused, is told beside its field", many(20), async (page, hero) => {
  await open(page, hero);
  await page.fill("#older_than_ms", "5y");
  await page.locator("#older_than_ms-problem", { hasText: "7d" }).waitFor();
  assert.ok(await page.locator("#delete").isDisabled());
  await page.fill("#older_than_ms", "1h");
  await page.locator("#delete:enabled").waitFor();
  await page.fill("#actor", "kind_build");
  await page.locator("#actor-problem", { hasText: "another field" }).waitFor();
  assert.equal(await page.getAttribute("#actor", "aria-invalid"), "true");
  assert.ok(await page.locator("#delete").isDisabled());
  await page.fill("#actor", "");
  await page.locator("#delete:enabled").waitFor();
});

story("jobs that have not finished stay, or are stopped first", job({ phase: "running", action: "codescaler_runs" }), async (page, hero) => {
  await page.goto(hero.link);
  await previewed(page);
  await shows(page, "#preview-details", /not finished/);
  assert.ok(await page.locator("#delete").isDisabled());
  // `serve` is no supervisor: a job without a pid can't be stopped.
  await page.locator("#force").check();
  await page.locator("#preview-details", { hasText: "stopped" }).waitFor();
  await previewed(page);
  assert.ok(await page.locator("#delete").isDisabled());
  // One whose process is gone can.
  hero.write(`UPDATE jobs SET pid = ${hero.gone()}`);
  await page.locator("#refresh").click();
  await page.locator("#delete:enabled", { hasText: "Stop and delete 1 job" }).waitFor();
  await remove(page);
  assert.equal(hero.count("jobs"), 0);
}, { serve: ["--same-pids"] });

story("the reload of a tab is the same session", many(20), async (page, hero) => {
  await open(page, hero);
  await page.reload();
  await previewed(page);
  await shows(page, "#connection", /^Connected$/);
  assert.ok(!hero.page.log.some((line) => line.includes("second time")));
});

describe("whoever is no admin", { skip: process.getuid() === 0 ? false : "needs root" }, () => {
  /** The user `daemon`, whom every system has. */
  const DAEMON = 1;

  test("sees that, and nothing else", async () => {
    const hero = new Hero();
    after(() => hero.end());
    hero.make(many(20));
    chmodSync(hero.directory, 0o755);
    await hero.serve();
    await hero.startGateway();
    chownSync(hero.socket, 0, DAEMON);
    await hero.startPage({ uid: DAEMON });
    const page = await tab(chromium);
    const before = hero.dump();
    await page.goto(hero.link);
    await page.locator("#preview-notice .notice", { hasText: /admin/ }).waitFor();
    assert.ok(await page.locator("#delete").isDisabled());
    await shows(page, "#fact-jobs", /^–$/);

    // And who may not even open the socket.
    chownSync(hero.socket, 0, 0);
    await page.locator("#refresh").click();
    await page.locator("#connection-notice .notice", { hasText: /permission/ }).waitFor();
    assert.equal(hero.dump(), before);
    assert.deepEqual(page.faults, []);
    await page.context().close();
  });
});
