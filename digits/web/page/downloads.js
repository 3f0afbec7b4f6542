// What can be saved: a table, recordings, and how a browser saves them.

export const decode = (text) => Uint8Array.from(atob(text), (c) => c.charCodeAt(0));

export function download(blob, name) {
  const link = Object.assign(document.createElement("a"), { href: URL.createObjectURL(blob), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}

const COLUMNS = ["time", "source", "start_s", "end_s", "digit", "probability", "accepted", "reason", "latency_ms"];

export function csv(history) {
  const cell = (value) => {
    const text = value instanceof Date ? value.toISOString() : String(value ?? "");
    const safe = /^[=+\-@\t\r]/.test(text) ? `'${text}` : text; // a file's name must not become a spreadsheet's formula
    return /[",\n\r]/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe;
  };
  return [COLUMNS, ...history.map((sound) => COLUMNS.map((name) => sound[name]))].map((line) => line.map(cell).join(",") + "\n").join("");
}

export function recordings(history, speaker) {
  return history.filter((sound) => sound.wav).map((sound) => [
    sound.accepted ? `recordings/${sound.digit}_${speaker}_${sound.number}.wav` : `recordings_rejected/none_${speaker}_${sound.number}.wav`,
    decode(sound.wav),
  ]);
}
