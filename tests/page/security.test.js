// Each claim of safety, attacked from where attackers stand: another page in the same browser, a name that leads elsewhere,
// a stolen link, and names in the store that somebody else chose.

import assert from "node:assert/strict";
import { once } from "node:events";
import { writeFileSync } from "node:fs";
import { createServer } from "node:http";
import { connect, createServer as createTcpServer } from "node:net";
import { after, test } from "node:test";

import { Hero, browser, job, many, open, previewed, tab } from "./support.js";

// Two names of somebody else's that lead to this machine.
const chromium = await browser("--host-resolver-rules=MAP attacker.example 127.0.0.1, MAP rebound.example 127.0.0.1");

/** A server of another user of this machine; the requests that it gets. */
const asked = [];
const attacker = createServer((request, response) => {
  asked.push(request.url);
  response.writeHead(200, { "Content-Type": "text/html", "Access-Control-Allow-Origin": "*" }).end("<!doctype html><title>attacker</title>");
});
await new Promise((listens) => attacker.listen(0, "127.0.0.1", listens));
const PORT = attacker.address().port;
after(() => attacker.close());

async function inFrontOf(sql, tells) {
  const hero = await Hero.with(sql);
  const page = await tab(chromium);
  try {
    await tells(page, hero);
  } finally {
    await page.context().close();
    await hero.end();
  }
}

const tokenOf = (page) => page.evaluate(() => sessionStorage.getItem("hero_proc_cleanup.token"));

/** The call that an attacker would like to be carried out. */
const DELETE = JSON.stringify({ jsonrpc: "2.0", id: 1, method: "jobs.cleanup", params: {} });

test("another origin can neither call nor read, even with the token", () => inFrontOf(many(30), async (page, hero) => {
  await open(page, hero);
  const token = await tokenOf(page);
  assert.match(token, /^[0-9a-f]{64}$/);
  const before = hero.dump();
  for (const origin of [`http://127.0.0.1:${PORT}`, `http://localhost:${PORT}`, `http://attacker.example:${PORT}`]) {
    const other = await page.context().newPage();
    await other.goto(origin);
    const outcomes = await other.evaluate(async ({ base, token, body, hosts }) => {
      const outcomes = [];
      const attempt = async (name, what) => {
        try {
          outcomes.push([name, await what()]);
        } catch (error) {
          outcomes.push([name, error.name]);
        }
      };
      const json = { "Content-Type": "application/json" };
      const signed = { ...json, Authorization: `Bearer ${token}` };
      for (const to of [base, ...hosts]) {
        for (const mode of ["cors", "no-cors"]) {
          for (const path of ["", "main.js", "status", "rpc", "session"]) {
            await attempt(`GET ${mode} ${path}`, async () => (await fetch(to + path, { mode, credentials: "include" })).type);
          }
          for (const headers of mode === "cors" ? [signed, json, {}] : [{}]) {
            for (const path of ["rpc", "session"]) {
              await attempt(`POST ${mode} ${path}`, async () => (await fetch(to + path, { method: "POST", mode, headers, body })).type);
            }
          }
          await attempt(`blob ${mode}`, async () =>
            (await fetch(`${to}rpc`, { method: "POST", mode, body: new Blob([body], { type: "application/json" }) })).type);
        }
        navigator.sendBeacon(`${to}rpc`, body);
        try {
          navigator.sendBeacon(`${to}rpc`, new Blob([body], { type: "application/json" }));
        } catch {
          // Not without a preflight.
        }
        const load = (name, attributes) => attempt(name, () => new Promise((done) => {
          const node = Object.assign(document.createElement(name), attributes);
          node.onload = () => done("loaded");
          node.onerror = () => done("refused");
          document.body.append(node);
        }));
        await load("script", { src: `${to}main.js` });
        await load("script", { src: `${to}main.js`, type: "module" });
        await load("img", { src: `${to}icon.svg` });
        await load("link", { rel: "stylesheet", href: `${to}style.css` });
        await attempt("stream", () => new Promise((done) => {
          const stream = new EventSource(`${to}status`);
          stream.onopen = () => done("open");
          stream.onerror = () => done("refused");
        }));
        // A form can send what reads as JSON, under another media type.
        const frame = document.createElement("iframe");
        frame.name = `frame${Math.random()}`;
        document.body.append(frame);
        for (const enctype of ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data"]) {
          const form = Object.assign(document.createElement("form"), { action: `${to}rpc`, method: "post", enctype, target: frame.name });
          form.append(Object.assign(document.createElement("input"), { name: body.replace(/}$/, ',"x":"'), value: '"}' }));
          document.body.append(form);
          await attempt(`form ${enctype}`, () => new Promise((done) => {
            frame.onload = () => {
              try {
                done(frame.contentDocument === null ? "refused" : "read");
              } catch (error) {
                done(error.name);
              }
            };
            form.submit();
          }));
        }
      }
      return outcomes;
    }, { base: hero.base, token, body: DELETE, hosts: [hero.base.replace("127.0.0.1", "localhost")] });
    const refused = ["TypeError", "refused"];
    assert.deepEqual(outcomes.filter(([, outcome]) => !refused.includes(outcome)), [], origin);
    await other.close();
  }
  assert.equal(hero.dump(), before);
  await page.locator("#refresh").click();
  await previewed(page);
  assert.equal(await page.locator("#connection").innerText(), "Connected", "the tab goes on");
}));

test("no page frames it, opens a window into it, or gets its address", () => inFrontOf(many(5), async (page, hero) => {
  await page.goto(`http://attacker.example:${PORT}`);
  await page.evaluate((link) => {
    document.body.append(Object.assign(document.createElement("iframe"), { src: link, name: "framed" }));
    document.body.append(Object.assign(document.createElement("object"), { data: link }));
    document.body.append(Object.assign(document.createElement("embed"), { src: link }));
  }, hero.link);
  await page.waitForLoadState("networkidle");
  const framed = await Promise.all(page.frames().slice(1).map((frame) => frame.content().catch(() => "")));
  assert.ok(framed.every((content) => !content.includes("Job cleanup")), framed.join());

  const opened = page.context().waitForEvent("page");
  await page.evaluate((base) => {
    window.opened = window.open(base, "victim");
  }, hero.base);
  const victim = await opened;
  await victim.waitForLoadState();
  assert.match(await victim.title(), /cleanup/i);
  assert.ok(await victim.evaluate(() => window.opener === null));
  assert.deepEqual(await page.evaluate(() => [window.opened.closed, window.opened.length]), [true, 0]);

  // What a page would be told of where a visitor came from.
  const own = await tab(chromium);
  await open(own, hero);
  await own.goto(`http://attacker.example:${PORT}/visited`);
  assert.equal(await own.evaluate(() => document.referrer), "");
  await own.context().close();
}));

test("a name that is rebound to this machine is refused, and the link is not lost", () => inFrontOf(many(5), async (page, hero) => {
  const rebound = hero.base.replace("127.0.0.1", "rebound.example");
  const answer = await page.goto(hero.link.replace("127.0.0.1", "rebound.example"));
  assert.equal(answer.status(), 403);
  assert.match(await answer.text(), /must name 127\.0\.0\.1/);
  // For the browser, these are of one origin.
  const secret = hero.link.split("#")[1];
  const call = (path, headers, body) => page.evaluate(async ([url, headers, body]) => {
    const answer = await fetch(url, { method: "POST", headers: { "Content-Type": "application/json", ...headers }, body });
    return answer.status;
  }, [rebound + path, headers, body]);
  assert.equal(await call("session", {}, JSON.stringify({ secret })), 403);
  const own = await tab(chromium);
  await open(own, hero);
  const before = hero.dump();
  assert.equal(await call("rpc", { Authorization: `Bearer ${await tokenOf(own)}` }, DELETE), 403);
  assert.equal(hero.dump(), before);
  await own.context().close();
}));

test("the link works under another name and port of this machine, as behind ssh -L", () => inFrontOf(many(5), async (page, hero) => {
  const port = Number(new URL(hero.base).port);
  const forward = createTcpServer((near) => {
    const far = connect(port, "127.0.0.1");
    for (const [one, other] of [[near, far], [far, near]]) one.on("error", () => other.destroy()).pipe(other);
  }).listen(0, "127.0.0.1");
  await once(forward, "listening");
  const base = `http://localhost:${forward.address().port}/`;
  await page.goto(base + hero.link.slice(hero.base.length));
  await page.locator("#delete:enabled").click();
  await page.locator("#outcome-title:focus").waitFor();
  assert.equal(page.url(), base);
  assert.ok(hero.count("jobs") < 5);
  assert.deepEqual(page.faults, []);
  forward.close();
}));

test("a link works once: whoever comes second is told, and so is the terminal", () => inFrontOf(many(5), async (thief, hero) => {
  await open(thief, hero);
  const before = hero.dump();
  const admin = await tab(chromium);
  await admin.goto(hero.link);
  const notice = admin.locator("#connection-notice .notice");
  await notice.waitFor();
  assert.match(await notice.innerText(), /already been used[^]*not you who used it, end that command/);
  assert.ok(!(await admin.locator("#content").isVisible()));
  assert.ok(!admin.url().includes("#"), "a secret that is used up leaves the address as well");
  await hero.page.says("the link was used a second time");
  await hero.page.end("SIGINT");
  await thief.locator("#refresh").click();
  await thief.locator("#connection-notice .notice").waitFor();
  assert.equal(hero.dump(), before);
  await admin.context().close();
}));

test("the secret and the token stand nowhere but in the tab", () => inFrontOf(many(5), async (page, hero) => {
  const secret = hero.link.split("#")[1];
  const headers = [];
  page.on("request", async (request) => headers.push(await request.allHeaders()));
  await open(page, hero);
  const token = await tokenOf(page);
  assert.equal(page.url(), hero.base);
  assert.deepEqual(await page.context().cookies(), []);
  assert.deepEqual(await page.evaluate(() => [localStorage.length, document.cookie, Object.keys(sessionStorage)]), [0, "", ["hero_proc_cleanup.token"]]);
  assert.ok(!(await page.content()).includes(token));
  assert.ok(page.asked.every((url) => !url.split("#")[0].includes(secret) && !url.includes(token)));
  assert.ok(headers.every((all) => all.referer === undefined && all.cookie === undefined), JSON.stringify(headers));
  assert.ok(!hero.page.log.concat(hero.gateway.log, hero.server.log).some((line) => line.includes(secret) || line.includes(token)));
  // Not in the back button, nor in another tab of the same browser.
  await page.goto("about:blank");
  await page.goBack();
  assert.equal(page.url(), hero.base);
  const other = await page.context().newPage();
  await other.goto(hero.base);
  await other.locator("#connection-notice .notice", { hasText: "not signed in" }).waitFor();
  assert.ok(!(await other.locator("#content").isVisible()));
}));

test("names in the store are text, whatever they hold", async () => {
  const owned = (how) => `<img src=x onerror="window.owned='${how}'">`;
  const script = `</script><script>window.owned='script'</script>`;
  const jobs = ["a", "b", "c"].map((name) => job({
    kind: owned("kind"), target: `"'><svg/onload=window.owned='target'>`, actor: script, action: `codescaler_${name}${owned("action")}`,
  })).join("\n");
  const table = `"<iframe src=""javascript:window.owned='table'"">"`;
  const sql = `${jobs}
    ${job({ kind: "\u202Etxet", actor: "{{constructor.constructor('window.owned=1')()}}", phase: owned("phase"), action: owned("stays") })}
    CREATE TABLE ${table} (job_id INTEGER NOT NULL REFERENCES jobs(id) ON DELETE CASCADE);
    INSERT INTO ${table} SELECT id FROM jobs;
    CREATE TABLE "holds<b>" (job_id INTEGER NOT NULL REFERENCES jobs(id) ON DELETE RESTRICT);
    INSERT INTO "holds<b>" SELECT min(id) FROM jobs;
    INSERT INTO services (name, spec_json) SELECT '<u>web</u>', json_object('actions', json_array(action)) FROM jobs WHERE id = 2;`;
  await inFrontOf(sql, async (page, hero) => {
    const failed = { at_ms: 1, kind: owned("failure"), message: owned("message") };
    writeFileSync(hero.state, JSON.stringify({
      every_ms: 1, succeeded_ms: 1, failures: 1, rules: { [owned("rule")]: { jobs: 1, bytes: 1, jobs_ever: 1, error: failed } },
      last: { ended_ms: 1, end: owned("end"), jobs: 1, actions: 1, bytes: 1, lock_ms: 1, longest_lock_ms: 1, error: failed },
      waits_for: { digest: owned("digest"), jobs_planned: 1, jobs_total: 1, rules: [{ rule: owned("waits"), jobs: 1, bytes: 1 }] },
    }));
    await open(page, hero);
    const shown = async (where) => {
      for (const details of await page.locator("details:not([open]) > summary").all()) {
        if (await details.isVisible()) await details.click();
      }
      const found = await page.evaluate(() => ({
        owned: window.owned ?? null,
        strange: [...document.querySelectorAll("body :is(img, script, iframe, object, embed, b:not(.legend b), u, style, link)")].map((node) => node.outerHTML),
        handlers: [...document.querySelectorAll("body *")].flatMap((node) => node.getAttributeNames().filter((name) => name.startsWith("on"))),
      }));
      assert.deepEqual(found, { owned: null, strange: [], handlers: [] }, where);
    };
    await shown("at first");
    const text = () => page.locator("main").innerText();
    for (const name of ["<img src=x", "</script><script>", "<svg/onload="]) assert.ok((await text()).includes(name), name);
    for (const list of ["Kind", "Target", "Actor", "Phase"]) {
      const bar = page.locator(`#usage-lists [aria-label='${list}'] button.bar`).first();
      await bar.click();
      await previewed(page);
      await shown(list);
      await bar.click();
      await previewed(page);
    }
    await page.locator("#clear").click();
    await page.locator("#delete:enabled").waitFor();
    await previewed(page);
    await page.locator("#delete").click();
    await page.locator("#outcome").waitFor();
    await previewed(page);
    await shown("the report");
    assert.ok((await page.locator("#outcome").innerText()).includes("<iframe src="));
    assert.deepEqual(page.faults, []);
  });
});

test("the policy of the page's contents holds", () => inFrontOf(many(5), async (page, hero) => {
  await open(page, hero);
  asked.length = 0;
  const violated = await page.evaluate(async (elsewhere) => {
    const violated = new Set();
    document.addEventListener("securitypolicyviolation", (event) => violated.add(event.effectiveDirective));
    const add = (name, attributes) => document.body.append(Object.assign(document.createElement(name), attributes));
    add("script", { textContent: "window.owned = 'inline'" });
    add("script", { src: `${elsewhere}/script` });
    add("script", { src: "data:text/javascript,window.owned='data'" });
    add("img", { src: `${elsewhere}/img` });
    add("link", { rel: "stylesheet", href: `${elsewhere}/style` });
    add("style", { textContent: "body { display: none }" });
    add("iframe", { src: `${elsewhere}/frame` });
    add("object", { data: `${elsewhere}/object` });
    add("video", { src: `${elsewhere}/media` });
    add("link", { rel: "manifest", href: `${elsewhere}/manifest` });
    add("base", { href: `${elsewhere}/` });
    document.body.setAttribute("onclick", "window.owned = 'handler'");
    document.body.click();
    setTimeout("window.owned = 'string'");
    await fetch(`${elsewhere}/fetch`).catch(() => {});
    navigator.sendBeacon(`${elsewhere}/beacon`, "x");
    try {
      new Worker(`${elsewhere}/worker`);
    } catch {
      // Not of another origin at all.
    }
    try {
      new WebSocket(elsewhere.replace("http", "ws"));
    } catch {
      // The policy says so.
    }
    const form = Object.assign(document.createElement("form"), { action: `${elsewhere}/form`, method: "post" });
    document.body.append(form);
    form.submit();
    await new Promise((done) => setTimeout(done, 500));
    return { violated: [...violated].sort(), owned: window.owned ?? null, display: getComputedStyle(document.body).display, base: document.baseURI };
  }, `http://127.0.0.1:${PORT}`);
  assert.equal(violated.owned, null);
  assert.notEqual(violated.display, "none");
  assert.equal(violated.base, hero.base);
  for (const directive of ["base-uri", "connect-src", "form-action", "frame-src", "img-src", "script-src-attr", "script-src-elem", "style-src-elem"]) {
    assert.ok(violated.violated.includes(directive), `${directive}: ${violated.violated}`);
  }
  assert.deepEqual(asked, [], "nothing has left");
}));
