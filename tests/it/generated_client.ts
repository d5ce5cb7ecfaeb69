// Uses the clients that OpenRPC's own generator has made of both documents: their types, and their answers.
// Arguments: the socket of `serve`, and that of `gateway`. The generated clients know TCP alone, hence the forwarding.

import { AddressInfo, connect, createServer } from "net";
import { deepStrictEqual } from "assert";
import Codescalers, { Report as CodescalersReport } from "./codescalers";
import HeroProc, { Report, Usage } from "./hero_proc";

async function forwarded(socket: string): Promise<number> {
  const server = createServer((near) => {
    const far = connect(socket);
    near.pipe(far).pipe(near);
    [near, far].forEach((side) => side.on("error", () => side.destroy()));
  });
  server.unref();
  await new Promise<void>((listens) => server.listen(0, "127.0.0.1", listens));
  return (server.address() as AddressInfo).port;
}

async function main(): Promise<void> {
  const [store, gateway] = await Promise.all(process.argv.slice(2).map(forwarded));
  const of = (port: number) => ({ transport: { type: "http" as const, host: "127.0.0.1", port, path: "/rpc" } });
  const heroProc = new HeroProc(of(store));
  const codescalers = new Codescalers(of(gateway));

  const usage: Usage = await heroProc["job.usage_by_tag"](["codescaler"]);
  deepStrictEqual(usage.jobs, 4);
  deepStrictEqual((await codescalers["jobs.usage"](undefined, undefined, null)).jobs, usage.jobs);

  // Params by name, those that are null among them.
  const cleanup = (dryRun: boolean, plan: string | null): Promise<CodescalersReport> =>
    codescalers["jobs.cleanup"]("build", null, null, null, null, null, null, null, null, null, null, null, dryRun, null, null,
      null, plan);
  const shown = await cleanup(true, null);
  deepStrictEqual([shown.jobs_planned, shown.jobs_deleted, shown.dry_run], [3, 0, true]);
  const done = await cleanup(false, shown.plan);
  deepStrictEqual([done.jobs_deleted, done.job_ids], [3, shown.job_ids]);
  const changed = await cleanup(false, shown.plan).catch((error) => error);
  deepStrictEqual([changed.code, changed.data.kind], [-32020, "plan_changed"]);

  const left: Report = await heroProc["job.cleanup_by_tag"](["codescaler"]);
  deepStrictEqual([left.jobs_deleted, left.jobs_kept.active], [0, 1]);
  const refused = await heroProc["job.cleanup_by_tag"](["ops"]).catch((error) => error);
  deepStrictEqual([refused.code, refused.data.kind], [-32002, "tag_outside_guard"]);
  deepStrictEqual((await heroProc["store.reclaim"](undefined, 0, 0, true)).dry_run, true);
  console.log("holds");
}

main().then(() => process.exit(0), (error) => { console.error(error); process.exit(1); });
