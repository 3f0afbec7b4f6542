#!/usr/bin/env bash
# Digits spoken by flite, a synthesiser that no training uses: experiments/voices/flite.sh FOLDER
set -euo pipefail
mkdir -p "$1"
words=(zero one two three four five six seven eight nine)
for voice in kal awb rms slt; do
    for digit in "${!words[@]}"; do
        take=0
        for stretch in 0.8 1.0 1.3; do
            for pitch in 90 120 190; do
                flite -voice "$voice" --setf duration_stretch=$stretch --setf int_f0_target_mean=$pitch \
                    -t "${words[digit]}" -o "$1/${digit}_${voice}_$((take++)).wav"
            done
        done
    done
done
