// The search as it runs, and what came of it. Every place has its size from the start, so nothing moves.

import { at, withCopies } from "./shared.js";

const number = new Intl.NumberFormat("en", { maximumSignificantDigits: 2 });
const whole = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
let told = -1;

export function speak(text) {
  at("spoken").textContent = text;
}

export function clear() {
  told = -1;
  for (const id of ["step", "passes", "left", "distance"]) at(id).textContent = "–";
  for (const id of ["live", "map"]) at(id).hidden = true;
  for (const row of document.querySelectorAll(".bars li")) showBar(row, ["\u00a0", 0, ""], "\u00a0");
  at("map-said").textContent = "The explanation’s map";
  at("progress").value = 0;
  at("outcome").replaceChildren();
}

export function showState(said) {
  const ahead = said.ahead === 1 ? "1 other is" : `${said.ahead} others are`;
  const words = {
    waiting: said.ahead ? `Waiting: ${ahead} before this one.` : "Starting…",
    loading: "Loading the classifier…",
    running: said.stopping ? "Stopping at the next step…" : said.frame ? "Searching…" : "Looking at the photo…",
    judging: "Judging the saved file…",
    done: "Done.",
    failed: "Nothing came of it.",
    left: "Stopped before it began.",
  };
  const status = at("status");
  if (status.textContent !== words[said.state]) {
    status.textContent = words[said.state];
    speak(words[said.state]);
  }
  if (said.state === "done") at("progress").value = 1;
}

export function showFrame(frame) {
  const { step, steps } = frame;
  at("progress").value = steps ? step / steps : 0;
  at("live").src = frame.picture;
  at("live").hidden = false;
  if (frame.map) {
    at("map").src = frame.map;
    at("map").hidden = false;
    at("map-said").textContent = frame.map_step === step ? "The explanation’s map" : `The explanation’s map at step ${frame.map_step}`;
  }
  document.querySelectorAll(".bars li").forEach((row, i) => {
    if (frame.bars[i]) showBar(row, frame.bars[i], `${(100 * frame.bars[i][1]).toFixed(1)} %`);
  });
  at("step").textContent = `${step} of ${steps}`;
  at("passes").textContent = frame.passes === null ? "–" : whole.format(frame.passes);
  at("left").textContent = frame.left === null ? "–" : duration(frame.left);
  at("distance").textContent = frame.distance === null ? "–" : number.format(frame.distance);
  const quarter = Math.floor((4 * step) / steps);
  if (quarter > told) {
    told = quarter;
    const wanted = frame.bars[0];
    speak(`Step ${step} of ${steps}: ${wanted[0]} has ${Math.round(100 * wanted[1])} percent.`);
  }
}

function duration(seconds) {
  return seconds < 90 ? `≤ ${Math.ceil(seconds)} s` : `≤ ${Math.ceil(seconds / 60)} min`;
}

function showBar(row, [name, p, role], said) {
  row.className = role;
  row.children[0].textContent = role === "wanted" ? `${name} (wanted)` : role === "own" ? `${name} (the photo’s own)` : name;
  row.children[0].title = name;
  row.children[1].value = p;
  row.children[2].textContent = said;
}

export function showOutcome(html) {
  const place = at("outcome");
  place.innerHTML = html;
  for (const figure of place.querySelectorAll("[data-compare]")) {
    const range = figure.querySelector("input"), frame = figure.querySelector(".frame");
    const cut = () => frame.style.setProperty("--cut", `${range.value}%`);
    range.addEventListener("input", cut);
    frame.addEventListener("pointermove", (e) => {
      if (!e.buttons && e.pointerType === "mouse") return;
      const box = frame.getBoundingClientRect();
      range.value = (100 * (e.clientX - box.left)) / box.width;
      cut();
    });
  }
  withCopies(place);
  at("came").focus({ preventScroll: true });
  at("came").scrollIntoView({ block: "nearest" });
}
