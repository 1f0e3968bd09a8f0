#!/bin/sh
# De opdrachten van docs/nl/rondleiding.md, om te kopiëren of in een lege map uit te voeren: sh rondleiding.sh
# Gemaakt door `cargo xtask tour --update`.
set -e

# Vooraf: twee modellen trainen

taal train --recipe dutch-bpe --set train.steps=400 --set 'sample.prompts=[]' \
  --set checkpoint.every=50 --set checkpoint.keep=10

taal train --recipe dutch-mlm --set train.steps=800 --set 'sample.prompts=[]'

# Een netwerk van lagen

taal inspect --model runs/dutch-bpe --svg lagen.svg

# De transformer en de recurrente netwerken ervoor

taal bench paradigm --set model.d_model=128 \
  --set eval.max_tokens=4000 --seconds 1 --copy-steps 10 |
  grep -E 'transformer|^parameters|^us per token'

# Self-attention: een kring van luisteraars

taal trace --model runs/dutch-bpe "Ik weet niet wat ik moet" --html spoor.html |
  sed -n '/^4 /,/^$/p;/^7 /,$p'

# Posities: genummerde woorden

cat > zinnen.txt <<'EOF'
de hond bijt de man
de man bijt de hond
de kat slaapt
EOF

taal similar --model runs/dutch-bpe --pool input --lines zinnen.txt "de hond bijt de man"

taal trace --model runs/dutch-bpe "de hond bijt de man" | sed -n '/^3 /,/^$/p'

taal similar --model runs/dutch-bpe --lines zinnen.txt "de hond bijt de man"

# Tokens

taal trace --model runs/dutch-bpe "De kat zat op de mat, in maart." | sed '/^3 /,$d'

taal tokenizer encode --tokenizer runs/dutch-bpe "De kat zat op de mat, in maart."

taal tokenizer decode --tokenizer runs/dutch-bpe 314,1278,1650

# Embeddings: punten in een ruimte van betekenis

for woord in koffie moeder Engels drie; do
  echo "$woord:"; taal similar --model runs/dutch-bpe --pool input --top 4 "$woord"
done

taal embeddings plot --model runs/dutch-bpe --pool input --out woorden.svg \
  vader moeder broer zus oom vriendin Engels Duits Spaans Italiaans Nederlands \
  koffie thee wijn water kan zal moet wil zou mag ik jij hij zij ze wij \
  mijn jouw haar ons hun onze twee drie vier vijf zes tien uur jaar dagen maanden \
  in op met voor door bij uit naar over

# Leren door te voorspellen

taal trace --checkpoints runs/dutch-bpe "Ik weet niet wat ik moet" | sed -n '/^6 /,/^$/p;/^8 /,$p'

taal generate --model runs/dutch-bpe --prompt "Ik weet niet wat ik moet" --max-tokens 40 --seed 2

taal fill --model runs/dutch-mlm "De kat zat op de [MASK]." --rank mat

taal fill --model runs/dutch-mlm "Mijn [MASK] is ouder dan ik."

# Finetunen: met 1 tot 10 % van het rekenwerk

cat > namen.toml <<'EOF'
[data]
corpus = "names"

[train]
init_from = "runs/dutch-bpe"   # gewichten, vorm en tokenizer
steps = 80
batch_size = 8
block_size = 128
lr = 2e-3

[sample]
prompts = []
EOF

cat > nieuw.txt <<'EOF'
sofie
lotte
hendrik
marieke
jasper
willemijn
EOF

taal eval --model runs/dutch-bpe --text nieuw.txt

taal train --recipe namen.toml

taal eval --model runs/namen --text nieuw.txt

taal generate --model runs/namen --prompt "ma" --max-tokens 30 --seed 1
