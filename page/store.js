// The store's file: what it holds, and how much of it can be given back to the file system.

import { byId, clear, describeFields, notice, say } from "./dom.js";
import { Unreadable, bytes, count, parseAge, share, span } from "./format.js";
import { isOfConnection } from "./rpc.js";
import { errorInWords, reclaimReason } from "./words.js";

/** Shows what the file holds, by the `usage` of all of codescaler's jobs. */
export function showStore(usage) {
  const { file_bytes: file, wal_bytes: wal, free_bytes: free } = usage.store;
  say("fact-jobs", count(usage.jobs));
  say("fact-finished", `${count(usage.finished)} finished`);
  say("fact-actions", count(usage.actions));
  say("fact-leaked", `${count(usage.actions_leaked)} leaked`);
  say("fact-file", bytes(file));
  say("fact-wal", wal > 0 ? `and a WAL of ${bytes(wal)}` : "and no WAL");
  say("fact-free", bytes(free));
  say("fact-free-share", `${share(free, file)} of the file`);
  const rest = Math.max(file - usage.bytes - usage.actions_bytes - free, 0);
  for (const [name, part] of Object.entries({ jobs: usage.bytes, actions: usage.actions_bytes, free, rest })) {
    byId("file-stack").style.setProperty(`--${name}`, file > 0 ? (part / file).toFixed(4) : "0");
    byId("file-legend").querySelector(`.${name} b`).textContent = bytes(part);
  }
}

/** The form that gives free space back. Its button says what a dry run has just promised. */
export class Reclaim {
  #ask;
  #done;
  #looking = null;

  /** `ask` calls a method; `done` is called when the file has changed. */
  constructor(ask, done) {
    this.#ask = ask;
    this.#done = done;
    describeFields(byId("reclaim"));
    let soon;
    byId("reclaim").addEventListener("input", () => {
      this.#stale();
      clearTimeout(soon);
      soon = setTimeout(() => this.look(), 250);
    });
    byId("reclaim").addEventListener("submit", (event) => {
      event.preventDefault();
      if (!byId("reclaim-button").disabled) this.#give();
    });
  }

  /** Looks what could be given back. */
  async look() {
    this.#stale();
    const params = this.#params();
    if (params === null) return;
    const looking = new AbortController();
    this.#looking = looking;
    try {
      const would = await this.#ask("jobs.reclaim", { ...params, dry_run: true }, { signal: looking.signal });
      this.#show(would);
    } catch (error) {
      if (error.name !== "AbortError") this.#failed(error, "Nobody knows what could be given back");
    }
  }

  async #give() {
    const params = this.#params();
    if (params === null) return;
    this.#stale();
    clear("reclaim-notice");
    say("reclaim-says", "Giving space back: hero_proc can’t write meanwhile.");
    try {
      const done = await this.#ask("jobs.reclaim", params, { changes: true });
      const took =
        done.lock_ms === null
          ? ""
          : `In ${span(done.duration_ms)}, with the write lock held for ${span(done.lock_ms)}.`;
      notice("reclaim-notice", done.outcome === "skipped" ? "Nothing was done" : "Space was given back", {
        message: `${words(done)} ${took}`,
        calm: true,
      });
    } catch (error) {
      this.#failed(error, "Space was not given back");
    }
    this.#done();
    byId("within_ms").focus();
  }

  #stale() {
    this.#looking?.abort();
    byId("reclaim-button").disabled = true;
  }

  #show(would) {
    const gives = Math.max(would.file_bytes_before - would.file_bytes_after, 0);
    const can = would.outcome !== "skipped";
    const lock =
      would.expected_lock_ms === null
        ? ""
        : ` Giving it back would hold the write lock for about ${would.expected_lock_ms.toFixed(0)} ms.`;
    say("reclaim-says", words(would) + lock);
    say("reclaim-button", can && gives > 0 ? `Give ${bytes(gives)} back` : "Give it back");
    byId("reclaim-button").disabled = !can;
  }

  /** The params; null if the time can't be read. */
  #params() {
    this.#problem("");
    const params = byId("always").checked ? { min_free_percent: 0, min_free_bytes: 0 } : {};
    try {
      if (byId("within_ms").value.trim() !== "") params.within_ms = parseAge(byId("within_ms").value.trim());
      return params;
    } catch (error) {
      if (!(error instanceof Unreadable)) throw error;
      this.#problem(error.message);
      return null;
    }
  }

  #problem(message) {
    say("within_ms-problem", message);
    if (message === "") byId("within_ms").removeAttribute("aria-invalid");
    else byId("within_ms").setAttribute("aria-invalid", "true");
  }

  #failed(error, title) {
    if (error.data?.param === "within_ms") {
      say("reclaim-says", "–");
      return this.#problem(error.message.replace('param "within_ms" ', ""));
    }
    say("reclaim-says", title);
    if (isOfConnection(error)) return;
    if (error.kind === "outcome_unknown") title = "The answer was lost: space may have been given back";
    notice("reclaim-notice", title, errorInWords(error), () => {
      clear("reclaim-notice");
      this.look();
    });
  }
}

/** What came of giving space back, or would: the sentences of the command. */
function words(reclaimed) {
  const { dry_run: dry, outcome, reason } = reclaimed;
  const [before, after] = [bytes(reclaimed.file_bytes_before), bytes(reclaimed.file_bytes_after)];
  let text = dry
    ? `The file would stay ${before} long: ${reclaimReason(reason)}.`
    : `The file stays ${before} long: ${reclaimReason(reason)}.`;
  if (outcome === "done")
    text = dry
      ? `The file would be about ${after} long; now: ${before}.`
      : `The file is now ${after} long; before: ${before}.`;
  if (outcome === "partly") text = `The file is now ${after} long; before: ${before}. ${reclaimReason(reason)}.`;
  if (reclaimed.wal_bytes_after > 0 && !dry) text += ` Its WAL has ${bytes(reclaimed.wal_bytes_after)}.`;
  if (reason === "disk_too_full") {
    for (const [needed, free, place] of [
      [reclaimed.temp_needed_bytes, reclaimed.temp_free_bytes, "in the directory for temporary files"],
      [reclaimed.store_needed_bytes, reclaimed.store_free_bytes, "beside the store"],
    ]) {
      if (needed && free !== null) text += ` ${bytes(needed)} are needed ${place}, where ${bytes(free)} are free.`;
    }
  }
  return text;
}
