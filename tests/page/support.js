// The real binary on a real store, and the real browser in front of it.
//
// Nothing here stands in for anything: stores are files that the command sqlite3 makes and reads, the servers are processes,
// and the browser is Debian's Chromium.

import { execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { after } from "node:test";
import { fileURLToPath } from "node:url";

import { chromium } from "playwright-core";

const root = fileURLToPath(new URL("../..", import.meta.url));
export const BINARY = process.env.HERO_PROC_CLEANUP ?? join(root, "target/debug/hero_proc_cleanup");
const SCHEMA = readFileSync(join(root, "schema/hero_proc.sql"), "utf8");
/** How long anything may take before a test gives up. */
export const PATIENCE = 30_000;

/** A process of the binary; its log, line by line. */
export class Process {
  log = [];

  constructor(args, options = {}) {
    this.child = spawn(BINARY, args, { stdio: ["ignore", "pipe", "pipe"], env: { ...process.env, RUST_LOG: "info" }, ...options });
    this.ended = once(this.child, "exit");
    createInterface({ input: this.child.stderr }).on("line", (line) => {
      this.log.push(line);
      this.child.emit("said");
    });
    this.stdout = createInterface({ input: this.child.stdout });
  }

  /** Waits for a line of the log that holds `text`. */
  async says(text) {
    const given = AbortSignal.timeout(PATIENCE);
    while (!this.log.some((line) => line.includes(text))) {
      await once(this.child, "said", { signal: given }).catch(() => {
        throw new Error(`never said ${text}: ${this.log.join("\n")}`);
      });
    }
  }

  async end(signal = "SIGTERM") {
    this.child.kill(signal);
    await this.ended;
  }
}

/** A store, the servers in front of it, and the page in front of those; all ended by `end`. */
export class Hero {
  directory = mkdtempSync(join(tmpdir(), "hero-page-"));
  store = join(this.directory, "hero_proc.db");
  state = join(this.directory, "state.json");
  socket = join(this.directory, "gateway.sock");
  #processes = [];

  /** A store with the tables of hero_proc's newest layout, and what `sql` adds, in front of which everything runs. */
  static async with(sql, { serve = [], ...options } = {}) {
    const hero = new Hero();
    hero.make(sql);
    await hero.serve(...serve);
    await hero.startGateway();
    await hero.startPage(options);
    return hero;
  }

  /** Makes the store. */
  make(sql) {
    this.write(`PRAGMA journal_mode = wal; ${SCHEMA}; BEGIN; ${sql}; COMMIT;`);
  }

  async serve(...args) {
    this.server = this.#start(["serve", "--store", this.store, "--socket", join(this.directory, "serve.sock"), ...args]);
    await this.server.says("serving");
  }

  async startGateway(...args) {
    this.gateway = this.#start(["gateway", "--socket", this.socket, "--hero-proc", join(this.directory, "serve.sock"), ...args]);
    await this.gateway.says("serving");
  }

  /** Starts the page, as the user `uid` if one is given, and keeps its link. */
  async startPage({ args = [], uid } = {}) {
    const options = uid === undefined ? {} : { uid, gid: uid };
    this.page = this.#start(["page", "--socket", this.socket, "--state", this.state, ...args], options);
    [this.link] = await once(this.page.stdout, "line", { signal: AbortSignal.timeout(PATIENCE) });
    this.base = this.link.split("#")[0];
  }

  #start(args, options) {
    const started = new Process(args, options);
    this.#processes.push(started);
    return started;
  }

  /** Carries `sql` out, as another writer beside the servers. */
  write(sql) {
    return execFileSync("sqlite3", ["-cmd", ".timeout 10000", "-bail", this.store], { input: sql, encoding: "utf8", maxBuffer: 1 << 30 });
  }

  /** The first column of what `sql` selects. */
  read(sql) {
    return this.write(sql).split("\n").filter((line) => line !== "");
  }

  count(table, where = "1") {
    return Number(this.read(`SELECT count(*) FROM ${table} WHERE ${where}`)[0]);
  }

  /** The pid of a process that has ended. */
  gone() {
    return execFileSync("sh", ["-c", "echo $$"], { encoding: "utf8" }).trim();
  }

  /** Everything in the store, as text. */
  dump() {
    return this.write(".dump");
  }

  async end() {
    await Promise.all(this.#processes.map((process) => process.end()));
    rmSync(this.directory, { recursive: true, force: true });
  }
}

/** A job and its action, inserted. Everything in it is the test's. */
export function job({ kind = "build", target = "web", actor = "ana", phase = "succeeded", days = 30, action, stderr = 0, tags }) {
  const text = (value) => `'${String(value).replaceAll("'", "''")}'`;
  const names = tags ?? ["codescaler", `codescaler_${actor}`, `codescaler_kind_${kind}`, `codescaler_target_${target}`];
  const spec = text(JSON.stringify({ tags: names }));
  const created = `(CAST(unixepoch('now') AS INTEGER) - ${Math.round(days * 86_400)}) * 1000`;
  return `INSERT INTO jobs (action, action_id, spec_json, phase, tags, stderr, created_at_ms, finished_at_ms)
      VALUES (${text(action)}, ${text(action)}, ${spec}, ${text(phase)}, ${text(JSON.stringify(names))},
              ${stderr > 0 ? `hex(zeroblob(${Math.ceil(stderr / 2)}))` : "NULL"}, ${created}, ${created});
    INSERT OR IGNORE INTO actions (name, spec_json, created_at_ms, updated_at_ms)
      VALUES (${text(action)}, ${spec}, ${created}, ${created});`;
}

/** `count` jobs of three kinds, three targets and three actors over 120 days, each with an action; one in ten failed, two run. */
export function many(count, { stderr = 200 } = {}) {
  const pick = (names, by) => `CASE n / ${by} % 3 WHEN 0 THEN '${names[0]}' WHEN 1 THEN '${names[1]}' ELSE '${names[2]}' END`;
  return `CREATE TEMP TABLE made AS
    WITH RECURSIVE numbers(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < ${count}),
    named AS (SELECT n, ${pick(["build", "test", "release"], 1)} AS kind, ${pick(["web", "api", "docs"], 3)} AS target,
                ${pick(["ana", "ben", "eve"], 9)} AS actor FROM numbers)
    SELECT n, 'codescaler_' || kind || '_' || n AS action,
      json_array('codescaler', 'codescaler_' || actor, 'codescaler_kind_' || kind, 'codescaler_target_' || target) AS tags,
      CASE WHEN n IN (7, 8) THEN 'running' WHEN n % 10 = 0 THEN 'failed' ELSE 'succeeded' END AS phase,
      (CAST(unixepoch('now') AS INTEGER) - (121 - (n * 120 / ${count})) * 86400) * 1000 AS at
    FROM named;
    INSERT INTO jobs (action, action_id, spec_json, phase, tags, stderr, created_at_ms, finished_at_ms)
      SELECT action, action, json_object('tags', json(tags)), phase, tags, hex(zeroblob(${stderr} / 2 + n % 97)), at, at FROM made;
    INSERT INTO actions (name, spec_json, created_at_ms, updated_at_ms) SELECT action, json_object('tags', json(tags)), at, at FROM made;
    DROP TABLE made;`;
}

const ARGUMENTS = [
  "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update",
  "--disable-sync", ...(process.getuid?.() === 0 ? ["--no-sandbox"] : []),
];

/** The browser, with further arguments. */
export function launch(...args) {
  return chromium.launch({ executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium", args: [...ARGUMENTS, ...args] });
}

/** The same, ended after the tests of this file. */
export async function browser(...args) {
  const started = await launch(...args);
  after(() => started.close());
  return started;
}

/**
 * A tab of its own, as a new browser has it, with what it must not do: whatever it asks of another host, and every error and
 * refusal of its content security policy, ends in `tab.faults`.
 */
export async function tab(of, options = {}) {
  const context = await of.newContext({ reducedMotion: "reduce", ...options });
  context.setDefaultTimeout(PATIENCE);
  const page = await context.newPage();
  page.faults = [];
  page.asked = [];
  page.on("request", (request) => page.asked.push(request.url()));
  page.on("pageerror", (error) => page.faults.push(`error: ${error.message}`));
  page.on("dialog", (dialog) => {
    page.faults.push(`dialog: ${dialog.message()}`);
    dialog.dismiss();
  });
  page.on("console", (message) => {
    // What could not be reached is told by the page, and by the browser as well.
    if (message.type() === "error" && !message.text().includes("Failed to load resource")) page.faults.push(`console: ${message.text()}`);
  });
  await page.addInitScript(() => {
    window.shifts = [];
    new PerformanceObserver((list) => {
      for (const shift of list.getEntries()) {
        window.shifts.push({ value: shift.value, input: shift.hadRecentInput, nodes: shift.sources.map(({ node }) => node?.id || node?.className || node?.nodeName) });
      }
    }).observe({ type: "layout-shift", buffered: true });
  });
  return page;
}

/** The calls of `page` as they are sent (`→ jobs.usage`) and answered (`← jobs.usage`); a dry run is `dry jobs.cleanup`. */
export function calls(page) {
  const seen = [];
  const note = (arrow, request) => {
    if (!request.url().endsWith("/rpc")) return;
    const { method, params } = JSON.parse(request.postData());
    seen.push(`${arrow} ${params.dry_run ? "dry " : ""}${method}`);
  };
  page.on("request", (request) => note("→", request));
  page.on("requestfinished", (request) => note("←", request));
  return seen;
}

/** Waits until the page's preview is of the filter as it stands. */
export async function previewed(page) {
  await page.locator("#preview:not([data-stale])").waitFor();
}

/** Opens the link of `hero`, and waits for the preview and the usage. */
export async function open(page, hero) {
  await page.goto(hero.link);
  await previewed(page);
  await page.locator("#usage-lists .bar").first().waitFor();
}

/** Waits until what stands in `selector` matches `pattern`. */
export async function shows(page, selector, pattern) {
  const given = [selector, pattern.source, pattern.flags];
  const matches = ([selector, source, flags]) => new RegExp(source, flags).test(document.querySelector(selector)?.innerText ?? "");
  try {
    await page.waitForFunction(matches, given);
  } catch {
    throw new Error(`${selector} never matched ${pattern}: ${await page.locator(selector).innerText()}`);
  }
}
