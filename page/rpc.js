// The way to the page's server: one call of JSON-RPC, the trade of a link's secret for a token, and retention's state.
//
// Addresses are relative, so that the page works under any prefix. A call is sent once and never repeated here.

/** How a call ended that was not answered with a result. */
export class CallError extends Error {
  /** `kind` is the stable word of the error's data, or `unreachable`, `signed_out` or `link_used` of this page. */
  constructor(kind, message, data = {}) {
    super(message);
    this.kind = kind;
    this.data = data;
  }
}

/** Whether an error is one of the way to hero_proc, or of this tab's session: the page says so once, at its top. */
export const isOfConnection = (error) =>
  ["signed_out", "link_used", "unreachable", "upstream_unreachable"].includes(error.kind);

const TOKEN = "hero_proc_cleanup.token";
/** Where the browser lets pages keep nothing, the token lives as long as the page. */
let memory = null;

function token() {
  try {
    return sessionStorage.getItem(TOKEN);
  } catch {
    return memory;
  }
}

function keepToken(value) {
  memory = value;
  try {
    sessionStorage.setItem(TOKEN, value);
  } catch {
    // Kept in memory.
  }
}

/** Whether this tab has come from a link. Embedded in another server's pages, it has not. */
export function hasToken() {
  return token() !== null;
}

/** The secret in the address's fragment; null if there is none, or if the fragment names a place in the page. */
export function secretOfLink() {
  const fragment = location.hash.slice(1);
  return fragment === "" || document.getElementById(fragment) !== null ? null : fragment;
}

/** Trades the secret of the link, if there is one, for a token, and takes it out of the address. A link works once. */
export async function signIn() {
  const secret = secretOfLink();
  if (secret === null) return;
  const answer = await send("./session", { secret }, {});
  if (answer.status !== 403 && !answer.ok)
    throw new CallError("unreachable", `the page's server answered ${answer.status}`);
  history.replaceState(null, "", location.pathname + location.search);
  if (answer.status === 403) throw new CallError("link_used", "this link has already been used");
  keepToken((await answer.json()).token);
}

let last = 0;

/**
 * The result of `method` with `params`. An `AbortSignal` drops the answer.
 *
 * `changes` says whether the call changes anything: then nobody knows what became of a call whose answer was lost.
 */
export async function call(method, params, { signal, changes = false } = {}) {
  last += 1;
  const lost = (why) => new CallError(changes ? "outcome_unknown" : "unreachable", why);
  let answer;
  let text;
  try {
    answer = await send("./rpc", { jsonrpc: "2.0", id: last, method, params }, { signal });
    text = await answer.text();
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw lost("the page's server can't be reached, or ended the connection");
  }
  if (answer.status === 401) throw new CallError("signed_out", "this tab is not signed in");
  const reply = parse(text);
  if (reply?.error) {
    const { message, data } = reply.error;
    throw new CallError(data?.kind ?? "internal", String(message), data ?? {});
  }
  if (reply?.result !== undefined) return reply.result;
  // An HTTP 4xx means that the call was not carried out.
  if (answer.status >= 400 && answer.status < 500) {
    throw new CallError("refused", `the page's server refused the call with HTTP ${answer.status}: nothing was sent`);
  }
  throw lost(`the page's server answered HTTP ${answer.status} and no JSON-RPC`);
}

/** Retention's state; null where the server has none. */
export async function retention() {
  const answer = await fetch("./status", { headers: headers() });
  return answer.ok ? (parse(await answer.text()) ?? null) : null;
}

function send(address, body, { signal }) {
  const type = { "Content-Type": "application/json" };
  return fetch(address, { method: "POST", headers: { ...headers(), ...type }, body: JSON.stringify(body), signal });
}

function headers() {
  const known = token();
  return known === null ? {} : { Authorization: `Bearer ${known}` };
}

/** JSON, or undefined. An integer that a JavaScript number can't hold, such as an id above 2^53, stays text. */
function parse(text) {
  const exact = (_, value, context) =>
    Number.isInteger(value) && !Number.isSafeInteger(value) && context?.source ? context.source : value;
  try {
    return JSON.parse(text, exact);
  } catch {
    return undefined;
  }
}
