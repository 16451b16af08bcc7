// The page that checks a file against an alarm.

import { ask, at, mistake, refuseLarge, takeFiles, withCopies } from "./shared.js";

let chosen = null;
const ready = () => { at("go").disabled = !chosen || !at("alarm").value; };

takeFiles((file) => {
  mistake();
  try {
    refuseLarge(file);
  } catch (e) {
    mistake(e.message);
    return;
  }
  chosen = file;
  if (at("chosen").src) URL.revokeObjectURL(at("chosen").src);
  at("chosen").src = URL.createObjectURL(file);
  at("chosen").alt = `The file ${file.name}`;
  at("chosen").hidden = false;
  at("hint").hidden = true;
  ready();
});

at("alarm-file").addEventListener("change", async () => {
  const file = at("alarm-file").files[0];
  if (!file) return;
  mistake();
  try {
    const given = await ask(`/alarms?name=${encodeURIComponent(file.name)}`, { method: "POST", body: file });
    const option = new Option(given.said, given.alarm, true, true);
    at("alarm").querySelector('[value=""]')?.remove();
    at("alarm").append(option);
  } catch (e) {
    mistake(e.message);
  }
  at("alarm-file").value = "";
  ready();
});

at("asked").addEventListener("submit", async (e) => {
  e.preventDefault();
  if (at("go").disabled) return;
  mistake();
  at("go").disabled = true;
  at("status").textContent = "Asking the alarm…";
  const query = new URLSearchParams({ name: chosen.name, alarm: at("alarm").value });
  try {
    at("outcome").innerHTML = await ask(`/check?${query}`, { method: "POST", body: chosen });
    at("status").textContent = "Done.";
    withCopies(at("outcome"));
    at("came").focus({ preventScroll: true });
    at("came").scrollIntoView({ block: "nearest" });
  } catch (error) {
    at("status").textContent = "Nothing came of it.";
    mistake(error.message);
  }
  ready();
});

at("alarm").addEventListener("change", ready);
