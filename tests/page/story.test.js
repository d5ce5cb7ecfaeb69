// From the link to an empty store, and everything that can come in between.

import assert from "node:assert/strict";
import { chmodSync, chownSync } from "node:fs";
import { connect, createServer } from "node:net";
import { after, describe, test } from "node:test";

import { browser, Hero, job, many, open, previewed, shows, tab } from "./support.js";

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
