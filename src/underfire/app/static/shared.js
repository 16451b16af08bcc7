// What all pages share: a request that gives a sentence when it fails, a mistake that is shown, a text that is copied.

export const at = (id) => document.getElementById(id);
export const MOST = 40_000_000;

export async function ask(address, options = {}) {
  let answer;
  try {
    answer = await fetch(address, options);
  } catch {
    throw new Error("The app does not answer: is it still running in its terminal?");
  }
  const kind = answer.headers.get("content-type") ?? "";
  const content = kind.startsWith("application/json") ? await answer.json() : await answer.text();
  if (!answer.ok) throw new Error(content.error ?? `The app answered ${answer.status}: ${content}`);
  return content;
}

export function mistake(said) {
  const place = at("mistake");
  place.textContent = said ?? "";
  place.hidden = !said;
}

export function withCopies(part) {
  for (const button of part.querySelectorAll("[data-copy]")) {
    button.addEventListener("click", async () => {
      await navigator.clipboard.writeText(button.parentElement.querySelector("code").textContent);
      button.textContent = "Copied";
    });
  }
}

// Files come by the picker, by dropping and by pasting; each is given to `take`.
export function takeFiles(take) {
  const drop = at("drop"), file = at("file");
  file.addEventListener("change", () => { if (file.files[0]) take(file.files[0]); file.value = ""; });
  addEventListener("dragover", (e) => { e.preventDefault(); drop.classList.add("over"); });
  addEventListener("dragleave", (e) => { if (!e.relatedTarget) drop.classList.remove("over"); });
  addEventListener("drop", (e) => {
    e.preventDefault();
    drop.classList.remove("over");
    if (e.dataTransfer.files[0]) take(e.dataTransfer.files[0]);
  });
  addEventListener("paste", (e) => { if (e.clipboardData.files[0]) take(e.clipboardData.files[0]); });
}

// The app refuses such a file too; here the browser need not send all of it first.
export function refuseLarge(file) {
  if (file.size > MOST) throw new Error(`'${file.name}' has more than ${MOST / 1e6} MB: make it smaller first.`);
}
