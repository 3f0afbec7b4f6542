// What the page shows: messages, the latest sound, the lines of the history, the level.
import { decode } from "./downloads.js";

export const WORDS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"];
export const METER_DB = 80; // below full scale

export const $ = (id) => document.getElementById(id);

export function say(text, trouble = false) {
  $("status").textContent = text;
  $("status").classList.toggle("trouble", trouble);
}

export const percent = (p) => `${(100 * p).toFixed(p > 0.9995 || p < 0.0005 ? 0 : 1)} %`;

export function show(sound) {
  const { digit, accepted, probabilities, log_mel } = sound;
  $("digit").textContent = accepted ? digit : "–";
  $("digit").className = `digit ${accepted ? "accepted" : "rejected"}`;
  $("said").textContent = accepted ? `${WORDS[digit]}, ${percent(sound.probability)} probable` : `rejected: ${sound.reason}`;
  const spoken = document.createElement("span"); // a new one, so that the same digit is read out twice
  spoken.textContent = accepted ? WORDS[digit] : `rejected, ${sound.reason}`;
  $("spoken").replaceChildren(spoken);
  [...$("bars").children].forEach((bar, d) => {
    const p = probabilities?.[d] ?? 0;
    bar.classList.toggle("best", accepted && d === digit);
    bar.querySelector(".bar").style.transform = `scaleY(${p})`;
    bar.querySelector(".percent").textContent = probabilities ? Math.round(100 * p) : "";
  });
  paint(log_mel);
}

function paint(picture) {
  const canvas = $("picture"), context = canvas.getContext("2d");
  if (!picture) return context.clearRect(0, 0, canvas.width, canvas.height);
  const { bands, frames, levels } = picture, bytes = decode(levels);
  [canvas.width, canvas.height] = [frames, bands];
  const image = context.createImageData(frames, bands);
  for (let band = 0; band < bands; band++) {
    for (let frame = 0; frame < frames; frame++) {
      image.data.set(colour(bytes[band * frames + frame] / 255), 4 * ((bands - 1 - band) * frames + frame));
    }
  }
  context.putImageData(image, 0, 0);
}

const STOPS = [[13, 10, 34], [72, 30, 110], [158, 47, 104], [232, 92, 62], [251, 174, 64], [252, 250, 190]]; // dark to light, evenly

function colour(value) {
  const at = value * (STOPS.length - 1), n = Math.min(STOPS.length - 2, Math.floor(at));
  return [...STOPS[n].map((low, c) => low + (at - n) * (STOPS[n + 1][c] - low)), 255];
}

export function row(sound) {
  const line = document.createElement("tr");
  line.className = sound.accepted ? "accepted" : "rejected";
  const at = sound.source === "microphone" ? sound.time.toLocaleTimeString() : `${sound.source}${sound.start_s === undefined ? "" : `, ${sound.start_s.toFixed(2)} s`}`;
  for (const [text, name] of [[at], [sound.digit ?? "–", "number"], [sound.probability === null ? "" : percent(sound.probability)], [sound.accepted ? "accepted" : sound.reason]]) {
    const cell = line.insertCell();
    cell.textContent = text;
    if (name) cell.className = name;
  }
  const play = document.createElement("button");
  play.type = "button";
  play.textContent = "▶";
  play.setAttribute("aria-label", `Play and show ${sound.accepted ? WORDS[sound.digit] : "the rejected sound"}`);
  play.onclick = () => {
    show(sound);
    const url = URL.createObjectURL(new Blob([decode(sound.wav)], { type: "audio/wav" }));
    const player = new Audio(url);
    player.onended = player.onerror = () => URL.revokeObjectURL(url);
    player.play().catch(() => {}); // another sound was started, or there is no loudspeaker
  };
  line.insertCell().append(...(sound.wav ? [play] : [])); // a long file's later sounds come without
  return line;
}

export function showLevel({ level_db, floor_db, threshold_db }) {
  const share = (db) => Math.min(1, Math.max(0, 1 + db / METER_DB));
  $("level").style.transform = `scaleX(${share(level_db)})`;
  $("level").classList.toggle("loud", level_db >= threshold_db);
  for (const [id, db] of [["floor", floor_db], ["word", threshold_db]]) {
    $(id).style.visibility = db === undefined ? "hidden" : "visible";
    if (db !== undefined) $(id).style.left = `calc(${share(db)} * (100% - 3px))`;
  }
  $("meter").setAttribute("aria-valuenow", Math.round(Math.max(-METER_DB, level_db)));
  $("db").textContent = floor_db === undefined ? "" : `${Math.round(level_db)} dB`;
}

$("bars").replaceChildren(...WORDS.map((word, digit) => {
  const bar = document.createElement("li");
  bar.innerHTML = `<span class="track"><span class="bar"></span></span><span>${digit}</span><span class="percent"></span>`;
  return bar;
}));
