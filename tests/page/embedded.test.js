// The page in another server: under a prefix, behind that server's own check of admins, without a link.
//
// The server is the example `codescalers`. In front of it stands a proxy that strips a prefix, as a dashboard's does.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { createServer, request } from "node:http";
import { dirname, join } from "node:path";
import { createInterface } from "node:readline";
import { after, test } from "node:test";

import { BINARY, PATIENCE, browser, previewed, tab } from "./support.js";

const PREFIX = "/apps/one";
const chromium = await browser();

test("the page works under a prefix, without a link", async () => {
  const host = spawn(join(dirname(BINARY), "examples/codescalers"), ["serve"], { stdio: ["pipe", "pipe", "inherit"] });
  const ended = once(host, "exit");
  after(async () => {
    host.stdin.end();
    assert.deepEqual(await ended, [0, null]);
  });
  let socketPath;
  for await (const line of createInterface({ input: host.stdout })) {
    socketPath = /^serving the page under \/cleanup\/ on (.*)$/.exec(line)?.[1];
    if (socketPath) break;
  }

  const asked = [];
  const proxy = createServer((from, to) => {
    asked.push(`${from.method} ${from.url}`);
    if (!from.url.startsWith(`${PREFIX}/`)) return to.writeHead(404).end();
    const headers = { ...from.headers, "x-forwarded-prefix": PREFIX };
    const on = request({ socketPath, method: from.method, path: from.url.slice(PREFIX.length), headers }, (answer) => {
      to.writeHead(answer.statusCode, answer.headers);
      answer.pipe(to);
    });
    from.pipe(on);
  }).listen(0, "127.0.0.1");
  after(() => proxy.close());
  await once(proxy, "listening", { signal: AbortSignal.timeout(PATIENCE) });
  const base = `http://127.0.0.1:${proxy.address().port}${PREFIX}/cleanup`;

  const page = await tab(chromium);
  await page.goto(base);
  assert.equal(page.url(), `${base}/`, "the slash is added behind the proxy's prefix");
  await page.locator("#clear").click();
  await page.locator("#delete:enabled", { hasText: "Delete 4 jobs" }).waitFor();
  await previewed(page);
  await page.locator("#delete").click();
  await page.locator("#outcome", { hasText: "4 jobs" }).waitFor();
  await page.locator("#delete:disabled", { hasText: "Nothing to delete" }).waitFor();
  assert.deepEqual(await page.evaluate(() => Object.keys(sessionStorage)), []);
  assert.deepEqual(page.faults, []);
  assert.deepEqual(asked.filter((line) => !line.includes(` ${PREFIX}/cleanup`) || line.includes("session")), []);
  await page.context().close();
});
