// The page that forges: the photo, the form, and what the app tells of the search.

import { ask, at, mistake, refuseLarge, takeFiles } from "./shared.js";
import { camera } from "./camera.js";
import { classifierChosen, wishOf } from "./form.js";
import { clear, showFrame, showOutcome, showState, speak } from "./live.js";

let photo = null;
let forgery = null;
let stream = null;

function shown(key, name) {
  photo = key;
  at("chosen").src = `/photos/${key}`;
  at("chosen").alt = `Your photo: ${name}`;
  at("chosen").hidden = false;
  at("hint").hidden = true;
  at("go").disabled = false;
}

async function give(address, content) {
  mistake();
  for (const one of document.querySelectorAll(".demo")) one.setAttribute("aria-pressed", "false");
  try {
    if (content?.size) refuseLarge(content);
    const given = await ask(address, { method: "POST", body: content });
    shown(given.photo, given.name);
    speak(`Photo ${given.name} is chosen.`);
    return true;
  } catch (e) {
    mistake(e.message);
    return false;
  }
}

const giveFile = (file) => give(`/photos?name=${encodeURIComponent(file.name)}`, file);
takeFiles(giveFile);
camera(giveFile);
for (const button of document.querySelectorAll(".demo")) {
  button.addEventListener("click", async () => {
    if (await give(`/photos/demo/${encodeURIComponent(button.dataset.demo)}`)) button.setAttribute("aria-pressed", "true");
  });
}

function busy(yes) {
  at("go").disabled = yes || !photo;
  at("stop").disabled = !yes;
}

// While the stream is open somebody waits for the search; when the page is closed, the app ends it.
function follow(key) {
  forgery = key;
  stream?.close();
  busy(true);
  stream = new EventSource(`/forge/${key}/events`);
  stream.onmessage = async (event) => {
    const said = JSON.parse(event.data);
    if (said.frame) showFrame(said.frame);
    showState(said);
    if (said.state === "judging") at("stop").disabled = true; // the search is over
    if (["done", "failed", "left"].includes(said.state)) {
      stream.close();
      busy(false);
      if (said.state === "failed") mistake(said.error);
      if (said.state === "done") showOutcome(await ask(`/forge/${key}/outcome`));
    }
  };
  stream.onerror = () => {
    if (stream.readyState === EventSource.CLOSED) {
      busy(false);
      mistake("The app does not answer: is it still running in its terminal?");
    }
  };
}

at("wish").addEventListener("submit", async (e) => {
  e.preventDefault();
  if (!photo || at("go").disabled) return;
  mistake();
  clear();
  busy(true);
  const stage = at("stage-title");
  if (stage.getBoundingClientRect().top > innerHeight / 2) stage.scrollIntoView({ block: "start" });  // a telephone
  try {
    const made = await ask("/forge", { method: "POST", body: JSON.stringify(wishOf(photo)) });
    history.replaceState(null, "", `/forge/${made.forgery}`);
    follow(made.forgery);
  } catch (error) {
    busy(false);
    mistake(error.message);
  }
});

at("stop").addEventListener("click", () => {
  at("stop").disabled = true;
  at("status").textContent = "Stopping at the next step…";
  ask(`/forge/${forgery}/stop`, { method: "POST" }).catch((e) => mistake(e.message));
});

classifierChosen().catch((e) => mistake(e.message));
at("classifier").addEventListener("change", () => classifierChosen().catch((e) => mistake(e.message)));
const stage = document.querySelector("[data-forgery]");
if (stage) {
  shown(stage.dataset.photo, stage.dataset.name);
  follow(stage.dataset.forgery);
}
