// A folder that is still being written: the line above the table says how far it is; the table itself stays still.

import { ask, at } from "./shared.js";

const EVERY = 3000;
const line = at("state");
const planned = Number(line.dataset.planned || 0);
const rows = Number(line.dataset.rows);
const what = line.dataset.what ?? "units";
const audit = new URLSearchParams(location.search).get("audit");
const address = "/browse/state" + (audit ? "?" + new URLSearchParams({ audit }) : "");

async function look() {
  const now = await ask(address);
  if (now.rows !== rows) {
    const link = document.createElement("a");
    link.href = location.href;
    link.textContent = `${now.rows.toLocaleString("en")} rows by now: show them`;
    line.replaceChildren(link, planned > now.units ? ` (${now.units} of ${planned} ${what})` : "");
    if (!rows) location.reload();
  }
  if (!planned || now.units < planned) setTimeout(() => look().catch(() => {}), EVERY);
}

if (!planned || Number(line.dataset.units) < planned) setTimeout(() => look().catch(() => {}), EVERY);
