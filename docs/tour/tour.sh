#!/bin/sh
# The commands of docs/tour.md, to copy or to run in an empty folder: sh tour.sh
# Written by `cargo xtask tour --update`.
set -e

# Setup: train two models

taal train --recipe english-bpe --set train.steps=400 --set 'sample.prompts=[]' \
  --set checkpoint.every=50 --set checkpoint.keep=10

taal train --recipe english-mlm --set train.steps=800 --set 'sample.prompts=[]'

# A network of layers

taal inspect --model runs/english-bpe --svg layers.svg

# The transformer, and the recurrent networks before it

taal bench paradigm --recipe english-bpe --set model.d_model=128 \
  --set eval.max_tokens=4000 --seconds 1 --copy-steps 10 |
  grep -E 'transformer|^parameters|^us per token'

# Self-attention: a circle of listeners

taal trace --model runs/english-bpe "I don't know what I should" --html trace.html |
  sed -n '/^4 /,/^$/p;/^7 /,$p'

# Positions: numbered words

cat > lines.txt <<'EOF'
the dog bites the man
the man bites the dog
the cat is asleep
EOF

taal similar --model runs/english-bpe --pool input --lines lines.txt "the dog bites the man"

taal trace --model runs/english-bpe "the dog bites the man" | sed -n '/^3 /,/^$/p'

taal similar --model runs/english-bpe --lines lines.txt "the dog bites the man"

# Tokens

taal trace --model runs/english-bpe "The cat sat on the cushion." | sed '/^3 /,$d'

taal tokenizer encode --tokenizer runs/english-bpe "The cat sat on the cushion."

taal tokenizer encode --tokenizer runs/english-bpe --json "The cat"

# Embeddings: positions in a space of meaning

for word in coffee mother French three; do
  echo "$word:"; taal similar --model runs/english-bpe --pool input --top 4 "$word"
done

taal embeddings plot --model runs/english-bpe --pool input --out words.svg \
  father mother brother sister son daughter wife husband French English German Spanish \
  coffee tea wine milk can could will would must should may I you he she we they \
  my your his her our their two three four five six ten years days hours minutes \
  in on of with for by from to at

# Learning by prediction

taal trace --checkpoints runs/english-bpe "I don't know what I should" | sed -n '/^6 /,/^$/p;/^8 /,$p'

taal generate --model runs/english-bpe --prompt "I don't know what I should" --max-tokens 40 --seed 1

taal fill --model runs/english-mlm "The cat sat on the [MASK]." --rank mat

taal fill --model runs/english-mlm "My [MASK] is older than me."

# Fine-tuning: with 1 to 10 % of the work

cat > names.toml <<'EOF'
[data]
corpus = "names"

[train]
init_from = "runs/english-bpe"   # weights, shape and tokenizer
steps = 80
batch_size = 8
block_size = 128
lr = 2e-3

[sample]
prompts = []
EOF

cat > new.txt <<'EOF'
sophie
harriet
jasper
willow
rosalind
benedict
EOF

taal eval --model runs/english-bpe --text new.txt

taal train --recipe names.toml

taal eval --model runs/names --text new.txt

taal generate --model runs/names --prompt "ma" --max-tokens 30 --seed 1
