// A ZIP archive without compression (PKWARE's APPNOTE.TXT, 4.3), because recordings hardly shrink.
const CRC_TABLE = Uint32Array.from({ length: 256 }, (_, n) => {
  for (let bit = 0; bit < 8; bit++) n = n & 1 ? 0xedb88320 ^ (n >>> 1) : n >>> 1;
  return n;
});

function crc32(bytes) {
  let crc = 0xffffffff;
  for (const byte of bytes) crc = CRC_TABLE[(crc ^ byte) & 255] ^ (crc >>> 8);
  return ~crc >>> 0;
}

function record(signature, ...fields) {
  const view = new DataView(new ArrayBuffer(4 + fields.reduce((sum, [size]) => sum + size, 0)));
  view.setUint32(0, signature, true);
  let at = 4;
  for (const [size, value] of fields) {
    if (size === 2) view.setUint16(at, value, true);
    else view.setUint32(at, value, true);
    at += size;
  }
  return view.buffer;
}

const DATE = [2, (1 << 5) | 1]; // 1 January 1980, the format's zero

// files: [name, Uint8Array] pairs
export function zip(files) {
  const parts = [], directory = [];
  let offset = 0, length = 0;
  for (const [name, bytes] of files) {
    const path = new TextEncoder().encode(name);
    const about = [[2, 20], [2, 0x800], [2, 0], [2, 0], DATE, [4, crc32(bytes)], [4, bytes.length], [4, bytes.length], [2, path.length], [2, 0]];
    const head = record(0x04034b50, ...about);
    const entry = record(0x02014b50, [2, 20], ...about, [2, 0], [2, 0], [2, 0], [4, 0], [4, offset]);
    parts.push(head, path, bytes);
    directory.push(entry, path);
    offset += head.byteLength + path.length + bytes.length;
    length += entry.byteLength + path.length;
  }
  const end = record(0x06054b50, [2, 0], [2, 0], [2, files.length], [2, files.length], [4, length], [4, offset], [2, 0]);
  return new Blob([...parts, ...directory, end], { type: "application/zip" });
}
