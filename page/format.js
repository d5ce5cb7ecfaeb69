// How figures, times and names are written: as the command's tables write them (src/cli/table.rs, src/cli/text.rs).
//
// Everything here is pure: text in, text out.

/** Characters that do not show as themselves, or change how others are shown: `is_hidden` in src/cli/text.rs. */
const HIDDEN =
  /[\p{Cc}\p{Cf}\p{Zl}\p{Zp}\p{Co}\p{Cn}\p{Cs}\p{Grapheme_Extend}\u115f\u1160\u3164\uffa0\u2800]|(?! )\p{Zs}/gu;
/** The most characters of a name or an error. */
const LONGEST = 200;

/** `text` on one line, with every hidden character as an escape: `\n`, `\u{1b}`. */
export function printable(text) {
  const short = { "\n": "\\n", "\r": "\\r", "\t": "\\t" };
  return String(text).replace(HIDDEN, (char) => short[char] ?? `\\u{${char.codePointAt(0).toString(16)}}`);
}

/** A name from the store: printable, and cut after 200 characters. */
export function excerpt(text) {
  const chars = [...String(text).slice(0, 2 * LONGEST + 2)];
  return printable(chars.length > LONGEST ? `${chars.slice(0, LONGEST).join("")}...` : text);
}

/** A value that jobs are counted by; a job may have none, or an empty text. */
export function named(value, none = "none") {
  if (value === null) return `(${none})`;
  return value === "" ? "(empty)" : excerpt(value);
}

/** `1234567` as `1,234,567`. */
export function count(number) {
  return String(number).replace(/\B(?=(\d{3})+$)/g, ",");
}

/** `count` of what is called `one` or `many`: `1 job`, `1,234 jobs`. */
export function number(many, one, more = `${one}s`) {
  return `${count(many)} ${many === 1 ? one : more}`;
}

/** Bytes with decimal prefixes and two digits: `179.30 MB`. */
export function bytes(number) {
  if (number < 1000) return `${number} B`;
  const prefixes = ["k", "M", "G", "T", "P", "E"];
  let value = number / 1000;
  let prefix = 0;
  for (; value >= 1000 && prefix < prefixes.length - 1; prefix += 1) value /= 1000;
  // Rust rounds what lies in the middle to the even digit, `toFixed` up.
  const middle = (value * 8) % 2 === 1;
  const even = middle && Math.floor(value * 100) % 2 === 0;
  return `${even ? (Math.floor(value * 100) / 100).toFixed(2) : value.toFixed(2)} ${prefixes[prefix]}B`;
}

/** The share that `part` has of `whole`, in per cent. */
export function share(part, whole) {
  const percent = whole === 0 ? 0 : (part * 100) / whole;
  return percent > 0 && percent < 1 ? "<1 %" : `${percent.toFixed(0)} %`;
}

/** A span that a call took: `4.2 ms`, `1.30 s`. */
export function span(ms) {
  if (ms >= 1000) return `${(ms / 1000).toFixed(2)} s`;
  return `${ms >= 100 ? ms.toFixed(0) : ms.toFixed(1)} ms`;
}

/** The day of a moment, in UTC. */
export function day(ms) {
  return moment(ms).slice(0, 10);
}

/** A moment, in UTC. */
export function moment(ms) {
  const date = new Date(ms);
  return Number.isNaN(date.getTime()) ? `${ms} ms` : `${date.toISOString().slice(0, 19).replace("T", " ")} UTC`;
}

/** Something that the reader typed, and that can't be read. */
export class Unreadable extends Error {}

const UNITS = { d: 86_400_000, h: 3_600_000, m: 60_000, s: 1000, ms: 1 };

/** The milliseconds of an age such as `7d`, as `--older-than` reads it. */
export function parseAge(text) {
  const [, digits, unit] = /^(\d+)(ms|[smhd])?$/.exec(text) ?? [];
  if (digits === undefined) throw new Unreadable("an age is digits and a unit: 250, 250ms, 3s, 10m, 2h or 7d");
  const ms = Number(digits) * UNITS[unit ?? "ms"];
  if (!Number.isSafeInteger(ms)) throw new Unreadable("this age is longer than 2^53-1 ms");
  return ms;
}

/** The age `ms` as `parseAge` reads it, in the largest unit that it is a multiple of. */
export function age(ms) {
  const unit = Object.keys(UNITS).find((name) => ms > 0 && ms % UNITS[name] === 0) ?? "ms";
  return `${ms / UNITS[unit]}${unit}`;
}

/** The first moment that can be a cut-off. */
const FIRST_MS = 100_000_000_000;

/** The milliseconds of a moment, not after `now`, as `--before` reads it: RFC 3339 with an offset, or a date. */
export function parseMoment(text, now) {
  const parts = /^(\d{4}-\d\d-\d\d)([Tt]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]\d\d:\d\d))?$/.exec(text);
  const date = parts && new Date(`${parts[1]}T00:00:00Z`);
  const ms = parts ? Date.parse((parts[2] ? text : `${text}T00:00:00Z`).toUpperCase()) : NaN;
  // A date such as 30 February would be read as one in March.
  if (Number.isNaN(ms) || date.toISOString().slice(0, 10) !== parts[1]) {
    throw new Unreadable("a time has an offset: 2026-11-01T18:30:00Z, or it is a date, 2026-11-01 (0:00 UTC)");
  }
  if (ms > now) throw new Unreadable(`this is in the future: it is ${new Date(now).toISOString().slice(0, 19)}Z`);
  if (ms < FIRST_MS) throw new Unreadable("this is before 1973-03-03T09:46:40Z");
  return ms;
}
