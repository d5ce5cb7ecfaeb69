// Makes the pictures of docs/page, and says how long the page takes on a store with 100,000 jobs: `npm run screenshots`.

import { mkdirSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";

import { Hero, launch, many, previewed, tab } from "./support.js";

const OUT = fileURLToPath(new URL("../../docs/page/", import.meta.url));
/** The widths, and how high the pictures are. */
const SIZES = [[360, 1400], [1024, 1000], [2560, 1300]];

/** Jobs as a store has them: some kinds, targets, actors and days have more than others. */
const UNEVEN = `
  UPDATE jobs SET
    tags = json_array('codescaler', 'codescaler_' || CASE WHEN id * 31 % 100 < 52 THEN 'ana' WHEN id * 31 % 100 < 80 THEN 'ben' ELSE 'eve' END,
      'codescaler_kind_' || CASE WHEN id * 37 % 100 < 41 THEN 'build' WHEN id * 37 % 100 < 69 THEN 'deploy' WHEN id * 37 % 100 < 89 THEN 'test'
        WHEN id * 37 % 100 < 97 THEN 'release' ELSE 'probe' END,
      'codescaler_target_' || CASE WHEN id * 41 % 100 < 46 THEN 'web' WHEN id * 41 % 100 < 71 THEN 'api' WHEN id * 41 % 100 < 88 THEN 'docs' ELSE 'edge' END),
    created_at_ms = created_at_ms - id * 53 % 97 * id * 59 % 89 * 86400 * 9,
    stderr = hex(zeroblob(200 + id * 43 % 71 * (id * 47 % 53)));
  UPDATE jobs SET finished_at_ms = created_at_ms;`;

const chromium = await launch();
mkdirSync(OUT, { recursive: true });
const hero = await Hero.with(`${many(100_000, { stderr: 1000 })} ${UNEVEN}`);
const times = [];
try {
  for (const [width, height] of SIZES) {
    for (const colorScheme of ["light", "dark"]) {
      await hero.page.end();
      await hero.startPage();
      const page = await tab(chromium, { viewport: { width, height }, colorScheme });
      const begun = performance.now();
      await page.goto(hero.link);
      await page.locator("#delete:enabled").waitFor();
      times.push(Math.round(performance.now() - begun));
      await page.locator("#reclaim-says", { hasText: "The file would" }).waitFor();
      await page.locator("#usage-lists [aria-label='Kind'] button.bar").first().click();
      await previewed(page);
      await page.locator("#usage-state", { hasText: "jobs" }).waitFor();
      await page.mouse.move(0, 0);
      await page.evaluate(() => {
        document.activeElement.blur();
        scrollTo(0, 0);
      });
      // Playwright writes no WebP; Chromium does.
      const session = await page.context().newCDPSession(page);
      const { data } = await session.send("Page.captureScreenshot", { format: "webp", quality: 60 });
      writeFileSync(`${OUT}${width}-${colorScheme}.webp`, Buffer.from(data, "base64"));
      await page.context().close();
    }
  }
  console.log(`From the link to a preview that can be confirmed, in ms: ${times.join(", ")}`);
} finally {
  await hero.end();
  await chromium.close();
}
