// Collects the microphone's samples into blocks of 16-bit numbers, at the rate of the browser's audio.
const BLOCK_S = 0.05;

class Capture extends AudioWorkletProcessor {
  constructor() {
    super();
    this.begin();
  }

  begin() {
    this.block = new Int16Array(Math.round(BLOCK_S * sampleRate));
    this.filled = 0;
  }

  process([channels]) {
    const count = channels.length;
    for (let n = 0; n < (channels[0]?.length ?? 0); n++) {
      let sum = 0;
      for (let c = 0; c < count; c++) sum += channels[c][n];
      this.block[this.filled++] = Math.max(-32768, Math.min(32767, Math.round(32768 * sum / count)));
      if (this.filled === this.block.length) {
        this.port.postMessage(this.block.buffer, [this.block.buffer]); // which empties it here
        this.begin();
      }
    }
    return true;
  }
}

registerProcessor("capture", Capture);
