// The camera: one press shows what it sees, the next one takes the photo.

import { at, mistake } from "./shared.js";

export function camera(take) {
  const button = at("shoot"), video = at("camera");
  let stream = null;

  function off() {
    for (const track of stream?.getTracks() ?? []) track.stop();
    stream = null;
    video.hidden = true;
    button.textContent = "Camera";
    button.setAttribute("aria-pressed", "false");
  }

  async function on() {
    stream = await navigator.mediaDevices.getUserMedia({ video: { width: { ideal: 1280 } } });
    video.srcObject = stream;
    video.hidden = false;
    at("chosen").hidden = at("hint").hidden = true;
    await video.play();
    button.textContent = "Take the photo";
    button.setAttribute("aria-pressed", "true");
  }

  function shot() {
    const canvas = document.createElement("canvas");
    [canvas.width, canvas.height] = [video.videoWidth, video.videoHeight];
    canvas.getContext("2d").drawImage(video, 0, 0);
    off();
    canvas.toBlob((blob) => take(new File([blob], "camera.png", { type: "image/png" })), "image/png");
  }

  button.addEventListener("click", () => {
    if (stream) shot();
    else on().catch((e) => { off(); mistake(`The camera cannot be used: ${e.message}.`); });
  });
}
