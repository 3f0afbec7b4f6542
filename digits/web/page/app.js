// The page: shows what the server hears in the microphone or in a file. Nothing is kept beyond this page.
import { zip } from "./zip.js";

const WORDS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"];
const RETRY_MS = 1000;
const MAX_WAITING_S = 2; // sound that waits to be sent; more is dropped
const KEPT = 500; // sounds in the history
const METER_DB = 80;
const [POLICY, TRY_LATER] = [1008, 1013]; // why the server closes a stream for good

const $ = (id) => document.getElementById(id);
const history = []; // newest last
let listening = null; // {context, media, socket, lost} while the microphone is on
let threshold = null; // what the slider says, in full
let ownThreshold = null; // the model's
let number = 0;

// ---- telling the user

function say(text, trouble = false) {
  $("status").textContent = text;
  $("status").classList.toggle("trouble", trouble);
}

const percent = (p) => `${(100 * p).toFixed(p > 0.9995 || p < 0.0005 ? 0 : 1)} %`;

// ---- the microphone

// name: of a voice to teach, if any
async function start(name = "") {
  if (!navigator.mediaDevices?.getUserMedia) {
    say("The browser gives the microphone only to pages on localhost or https. Open the page there, or recognise a file.", true);
    return;
  }
  const own = (listening = { lost: 0, name });
  $("listen").textContent = "Stop";
  $("device").disabled = $("voice").disabled = Boolean(name); // changing them would begin the lesson anew
  $("listen").classList.add("on");
  say("Waiting for the microphone…");
  try {
    const device = $("device").value;
    own.media = await navigator.mediaDevices.getUserMedia({
      audio: {
        ...(device && { deviceId: { exact: device } }),
        echoCancellation: false, noiseSuppression: false, autoGainControl: false, // they would change the sound
      },
    });
    own.context = new AudioContext();
    await own.context.audioWorklet.addModule("worklet.js");
    const capture = new AudioWorkletNode(own.context, "capture", { numberOfOutputs: 0 });
    capture.port.onmessage = ({ data }) => send(own, data);
    own.context.createMediaStreamSource(own.media).connect(capture);
    await own.context.resume();
  } catch (error) {
    if (listening === own) stop(whyNoMicrophone(error), true);
    else release(own);
    return;
  }
  if (listening !== own) return release(own); // stopped meanwhile
  for (const track of own.media.getTracks()) {
    track.onended = () => listening === own && stop("The microphone was unplugged, or its permission withdrawn.", true);
  }
  await listDevices().catch(() => {}); // then the list stays as it was
  if (listening !== own) return; // stopped meanwhile
  connect(own);
}

function whyNoMicrophone(error) {
  const reasons = {
    NotAllowedError: "The browser refuses the microphone. Allow it for this page (the symbol beside the address), then press Listen again.",
    NotFoundError: "There is no microphone. Plug one in and press Listen again, or recognise a file.",
    OverconstrainedError: "That microphone is gone. Choose another.",
    NotReadableError: "The microphone cannot be opened. Another program may be using it.",
  };
  return reasons[error.name] ?? `The microphone cannot be used: ${error.message}`;
}

async function listDevices() {
  const chosen = $("device").value;
  const devices = (await navigator.mediaDevices.enumerateDevices()).filter((d) => d.kind === "audioinput" && d.deviceId && d.deviceId !== "default");
  $("device").replaceChildren(new Option("the default one", ""), ...devices.map((d, n) => new Option(d.label || `microphone ${n + 1}`, d.deviceId)));
  $("device").value = devices.some((d) => d.deviceId === chosen) ? chosen : "";
}

function connect(own) {
  const query = new URLSearchParams({ sample_rate: own.context.sampleRate, details: "" });
  own.asked = threshold === ownThreshold ? null : threshold; // of the server, which otherwise takes the model's
  if (own.asked !== null) query.set("threshold", own.asked);
  if (own.name) query.set("enroll", own.name);
  else if ($("voice").value) query.set("voice", $("voice").value);
  const socket = (own.socket = new WebSocket(`${location.origin.replace(/^http/, "ws")}/v1/stream?${query}`));
  let trouble = "";
  socket.onmessage = ({ data }) => {
    const message = JSON.parse(data);
    if (message.type === "heard" && !own.name) add(message, "microphone"); // what it takes an answer for does not matter
    if (listening !== own) return; // stopped, but for the last word
    if (message.type === "ready") ready(own, message);
    else if (message.type === "level") level(own, message);
    else if (message.type === "only_zeros") {
      own.silent = true;
      say("Only silence arrives: is the microphone muted, or the wrong one chosen?", true);
    }
    else if (message.type === "ask") $("question").textContent = message.text;
    else if (message.type === "note") say(message.text, true);
    else if (message.type === "enrolled") enrolled(own.name, message);
    else if (message.type === "error") trouble = message.text;
  };
  socket.onclose = ({ code, reason }) => {
    if (listening !== own) return;
    if (code === POLICY || code === TRY_LATER) return stop(`The server has closed the stream: ${trouble || reason}.`, true);
    if (own.name) return stop("The connection was lost before the end, so nothing was learnt.", true);
    say("The connection is lost. Trying again…", true);
    setTimeout(() => listening === own && connect(own), RETRY_MS);
  };
}

function send(own, block) {
  const { socket, context } = own;
  if (socket?.readyState !== WebSocket.OPEN) return;
  if (socket.bufferedAmount > 2 * MAX_WAITING_S * context.sampleRate) {
    if (own.lost++ % 50 === 0) say("The connection is too slow: some sound was lost.", true);
    return;
  }
  socket.send(block);
}

function ready(own, { model, threshold: served }) {
  say("Listening.");
  $("model").textContent = `Model: ${model}`;
  const isOwn = threshold === ownThreshold;
  if (own.asked === null) ownThreshold = served; // the server may have another model now
  setThreshold(isOwn ? ownThreshold : threshold); // it may have been moved meanwhile
}

function level(own, message) {
  showLevel(message);
  if (own.silent && message.level_db >= message.threshold_db) {
    own.silent = false;
    say("Listening.");
  }
}

function stop(text = listening.name ? "Stopped before the end, so nothing was learnt." : "Stopped. Press Listen to go on.", trouble = false) {
  const own = listening;
  listening = null;
  release(own);
  $("listen").textContent = "Listen";
  $("device").disabled = $("voice").disabled = false;
  $("listen").classList.remove("on");
  $("question").textContent = "";
  showLevel({ level_db: -METER_DB });
  say(text, trouble);
}

function release(own) {
  if (own.socket?.readyState === WebSocket.OPEN && !own.name) own.socket.send(JSON.stringify({ end: true })); // for the last word
  else own.socket?.close();
  own.media?.getTracks().forEach((track) => track.stop());
  own.context?.close().catch(() => {}); // it is closed already if it was stopped while it was starting
}

// ---- files

async function recognize(files) {
  for (const file of files) {
    say(`Recognising ${file.name}…`);
    const query = new URLSearchParams({ details: "" });
    chooseThreshold(query);
    if ($("voice").value) query.set("voice", $("voice").value);
    const content = await file.arrayBuffer().catch(() => null);
    if (content === null) {
      say(`${file.name} cannot be read.`, true);
      continue;
    }
    try {
      const answer = await fetch(`/v1/recognize?${query}`, { method: "POST", body: content });
      const { sounds, error } = await answer.json();
      if (error) say(`${file.name}: ${error.replace(/^recording: /, "")}`, true);
      else say(sounds.length ? `${file.name}: ${sounds.length === 1 ? "one sound" : `${sounds.length} sounds`}.` : `${file.name}: nothing was heard.`);
      for (const sound of sounds ?? []) add(sound, file.name);
    } catch {
      say(`${file.name}: the server does not answer.`, true);
    }
  }
}

// ---- voices

async function listVoices(chosen = $("voice").value) {
  const { voices } = await fetch("/v1/voices").then((answer) => answer.json()).catch(() => ({ voices: null }));
  $("voices").hidden = voices === null;
  $("voice").replaceChildren(new Option("the model as it is", ""), ...(voices ?? []).map((name) => new Option(name, name)));
  $("voice").value = voices?.includes(chosen) ? chosen : "";
  $("forget").hidden = !$("voice").value;
}

async function enrolled(name, { recordings, right_before, right_after, helps, doubtful }) {
  const worth = `Of ${recordings} recordings, ${right_before} were right without this voice and ${right_after} are with it, tried on recordings it has not heard.`;
  const doubts = doubtful.length ? ` ${doubtful.length} sound like another digit.` : "";
  stop(`${worth}${doubts}${helps ? "" : " It does not help: teach it again in a quiet place, or delete it."}`, !helps);
  await listVoices(helps ? name : "");
}

async function forget() {
  const name = $("voice").value;
  if (!confirm(`Delete the voice ${name} and its recordings?`)) return;
  if (listening) stop();
  const answer = await fetch(`/v1/voices/${encodeURIComponent(name)}`, { method: "DELETE" }).catch(() => null);
  say(answer?.ok ? `The voice ${name} and its recordings are deleted.` : `The voice ${name} could not be deleted.`, !answer?.ok);
  await listVoices("");
}

// ---- what was heard

function add(sound, source) {
  const kept = { ...sound, source, number: number++, time: new Date() };
  history.push(kept);
  if (history.length > KEPT) {
    history.shift();
    $("rows").lastChild.remove();
  }
  show(kept);
  $("rows").prepend(row(kept));
  count();
}

function show(sound) {
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

const decode = (text) => Uint8Array.from(atob(text), (c) => c.charCodeAt(0));

function row(sound) {
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
  line.insertCell().append(play);
  return line;
}

function count() {
  const accepted = history.filter((sound) => sound.accepted).length;
  $("counts").textContent = history.length ? `${accepted} accepted, ${history.length - accepted} rejected` : "";
  for (const id of ["csv", "zip", "clear"]) $(id).disabled = !history.length;
}

function showLevel({ level_db, floor_db, threshold_db }) {
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

// ---- threshold

function chooseThreshold(query) {
  if (threshold !== ownThreshold) query.set("threshold", threshold);
}

function setThreshold(value) {
  threshold = $("threshold").value = value;
  $("threshold-value").textContent = percent(value);
  const socket = listening?.socket;
  if (socket?.readyState === WebSocket.OPEN) socket.send(JSON.stringify({ threshold }));
}

// ---- downloads

function download(blob, name) {
  const link = Object.assign(document.createElement("a"), { href: URL.createObjectURL(blob), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}

const COLUMNS = ["time", "source", "start_s", "end_s", "digit", "probability", "accepted", "reason", "latency_ms"];

function csv() {
  const cell = (value) => {
    const text = value instanceof Date ? value.toISOString() : String(value ?? "");
    const safe = /^[=+\-@\t\r]/.test(text) ? `'${text}` : text; // a file's name must not become a spreadsheet's formula
    return /[",\n\r]/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe;
  };
  return [COLUMNS, ...history.map((sound) => COLUMNS.map((name) => sound[name]))].map((line) => line.map(cell).join(",") + "\n").join("");
}

function recordings(speaker) {
  return history.map((sound) => [
    sound.accepted ? `recordings/${sound.digit}_${speaker}_${sound.number}.wav` : `recordings_rejected/none_${speaker}_${sound.number}.wav`,
    decode(sound.wav),
  ]);
}

// ---- wiring

$("bars").replaceChildren(...WORDS.map((word, digit) => {
  const bar = document.createElement("li");
  bar.innerHTML = `<span class="track"><span class="bar"></span></span><span>${digit}</span><span class="percent"></span>`;
  return bar;
}));
if (!["localhost", "127.0.0.1"].includes(location.hostname)) {
  for (const place of document.querySelectorAll(".where")) place.textContent = location.host;
}
$("listen").onclick = () => (listening ? stop() : start());
const restart = () => { if (listening) { stop(); start(); } };
$("device").onchange = restart;
$("voice").onchange = () => { $("forget").hidden = !$("voice").value; restart(); };
$("forget").onclick = forget;
$("enroll").onclick = () => {
  if (!$("name").value) { say("Give the voice a name first: letters and digits.", true); $("name").focus(); return; }
  if (!$("name").reportValidity()) return;
  if (listening) stop();
  start($("name").value);
};
$("threshold").oninput = () => setThreshold($("threshold").valueAsNumber);
$("own").onclick = () => setThreshold(ownThreshold);
$("file").onchange = async ({ target }) => { await recognize([...target.files]); target.value = ""; };
$("csv").onclick = () => download(new Blob([csv()], { type: "text/csv" }), "heard.csv");
$("zip").onclick = () => {
  if (!$("speaker").reportValidity()) return;
  download(zip(recordings($("speaker").value || "me")), "recordings.zip");
};
$("clear").onclick = () => { history.length = 0; $("rows").replaceChildren(); count(); };
document.addEventListener("dragover", (event) => { event.preventDefault(); document.body.classList.add("dropping"); });
document.addEventListener("dragleave", (event) => { if (!event.relatedTarget) document.body.classList.remove("dropping"); });
document.addEventListener("drop", (event) => {
  event.preventDefault();
  document.body.classList.remove("dropping");
  recognize([...event.dataTransfer.files]);
});
navigator.mediaDevices?.addEventListener("devicechange", () => listDevices().catch(() => {}));
await listVoices();
const about = await fetch("/healthz").then((answer) => answer.json()).catch(() => null);
if (about) {
  $("model").textContent = `Model: ${about.model}`;
  setThreshold((ownThreshold = about.threshold));
}
