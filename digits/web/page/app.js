// The page: shows what the server hears in the microphone or in a file. Nothing is kept beyond this page.
import { csv, download, recordings } from "./downloads.js";
import { $, METER_DB, percent, row, say, show, showLevel } from "./view.js";
import { zip } from "./zip.js";

const RETRY_MS = 1000;
const MAX_WAITING_S = 2; // sound that waits to be sent; more is dropped
const KEPT = 500; // sounds in the history
const [POLICY, TRY_LATER] = [1008, 1013]; // why the server closes a stream for good

const history = []; // newest last
let listening = null; // {context, media, socket, lost} while the microphone is on
let threshold = null; // what the slider says, in full
let ownThreshold = null; // the model's
let number = 0;

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

function count() {
  const accepted = history.filter((sound) => sound.accepted).length;
  $("counts").textContent = history.length ? `${accepted} accepted, ${history.length - accepted} rejected` : "";
  for (const id of ["csv", "zip", "clear"]) $(id).disabled = !history.length;
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

// ---- wiring

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
$("csv").onclick = () => download(new Blob([csv(history)], { type: "text/csv" }), "heard.csv");
$("zip").onclick = () => {
  if (!$("speaker").reportValidity()) return;
  download(zip(recordings(history, $("speaker").value || "me")), "recordings.zip");
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
