// Retention's state: what the last pass of `retain` did, and whether it is in time. Shown where the server knows it.

import { byId } from "./dom.js";

export function showRetention(status) {
  byId("retention").hidden = status === null || status === undefined;
}
