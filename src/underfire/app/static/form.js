// The form: what a classifier knows, and what is wanted.

import { ask, at } from "./shared.js";

let classes = [];

export async function classifierChosen() {
  const name = at("classifier").value;
  const known = await ask(`/classifier?name=${encodeURIComponent(name)}`);
  if (name !== at("classifier").value) return;
  classes = known.classes;
  at("classes").replaceChildren(...classes.map((one, i) => {
    const option = document.createElement("option");
    option.value = `${one.split(",")[0]} (${i})`;
    option.label = one;
    return option;
  }));
  fillInterpreters(known.interpreters);
}

function fillInterpreters(interpreters) {
  const select = at("interpreter"), before = select.value;
  select.replaceChildren(...interpreters.filter((one) => one.attacked).map((one) => {
    const option = document.createElement("option");
    option.value = one.name;
    option.textContent = one.label + (one.problem ? " – does not fit" : one.dear ? " – takes minutes" : "");
    option.disabled = Boolean(one.problem);
    return option;
  }));
  if (interpreters.some((one) => one.name === before && !one.problem)) select.value = before;
  at("others").replaceChildren(...interpreters.filter((one) => !one.problem).map((one) => {
    const label = document.createElement("label"), box = document.createElement("input");
    box.type = "checkbox";
    box.value = one.name;
    label.append(box, one.label + (one.dear ? " (slow)" : ""));
    return label;
  }));
  const say = () => {
    at("said").textContent = interpreters.find((one) => one.name === select.value)?.said ?? "";
    for (const box of at("others").querySelectorAll("input")) box.disabled = box.value === select.value;
  };
  select.onchange = say;
  say();
}

// The number in brackets is what counts: many names stand for several classes.
export function targetOf(word) {
  const index = word.match(/\((\d+)\)\s*$/);
  return index ? index[1] : word.trim() || "random";
}

at("target").addEventListener("input", () => {
  const target = targetOf(at("target").value);
  at("target-said").textContent = classes[target] ?? (target === "random" ? "\u00a0" : "Choose one of the list, or go on typing.");
});

at("eps").addEventListener("input", () => {
  at("eps-said").textContent = `${at("eps").value}/255`;
  at("eps").setAttribute("aria-valuetext", `${at("eps").value} of 255 levels`);
});

export function wishOf(photo) {
  const others = [...at("others").querySelectorAll("input:checked:enabled")].map((box) => box.value);
  const named = Object.fromEntries(["classifier", "interpreter", "attack", "preset", "save_as"].map((name) => [name, at(name).value]));
  return { photo, ...named, others, eps: Number(at("eps").value), target: targetOf(at("target").value) };
}
