#!/usr/bin/env bash
# Other words, and speech without digits or words that sound like them, spoken by flite: experiments/voices/other_speech.sh FOLDER
set -euo pipefail
here="$(cd "$(dirname "$0")" && pwd)"
voices=(kal awb rms slt)
mkdir -p "$1/other" "$1/near" "$1/speech"
for kind in other near; do
    n=0
    for word in $(cat "$here/../live/${kind}_words.txt"); do
        for take in 0 1; do
            flite -voice "${voices[n % 4]}" -t "$word" -o "$1/$kind/${word}_$take.wav"
            n=$((n + 1))
        done
    done
done
# The text is Python's language reference, which is part of every Python (here: 3.11).
python3 - "$1/speech" <<'PYTHON'
import pathlib, re, sys
from pydoc_data.topics import topics

text = " ".join(topics[name] for name in sorted(topics))
sentences = re.split(r"(?<=[.]) ", re.sub(r"[^A-Za-z., ]+", " ", text))
digits = re.compile(r"\b(zero|oh?|one|won|two|too?|three|four|fore?|five|six|seven|eight|ate|nine)\b", re.I)
spoken = [s for s in sentences if 30 < len(s) < 200 and not digits.search(s)][:1200]
for voice in range(4):
    pathlib.Path(sys.argv[1], f"{voice}.txt").write_text(" ".join(spoken[voice::4]))
PYTHON
for index in 0 1 2 3; do
    flite -voice "${voices[index]}" -f "$1/speech/$index.txt" -o "$1/speech/$index.wav"
    rm "$1/speech/$index.txt"
done
