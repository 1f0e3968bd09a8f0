#!/bin/sh
# The commands of docs/tour.md, to copy or to run in an empty folder: sh tour.sh
# Written by `cargo xtask tour --update`.
set -e

# Setup: train two models

taal train --recipe shakespeare-char --run-dir runs/shakespeare --set train.steps=400 \
  --set tokenizer.kind=bpe --set tokenizer.vocab_size=2048 --set 'sample.prompts=[]' \
  --set checkpoint.every=50 --set checkpoint.keep=10 --set eval.every=200

taal train --recipe english-mlm --set train.steps=400 --set 'sample.prompts=[]' \
  --set model.preset=encoder --set model.residual_std=0.0

# A network of layers

taal inspect --model runs/shakespeare --svg layers.svg

# The transformer, and the recurrent networks before it

taal bench paradigm --recipe shakespeare-char --seconds 1 --copy-steps 10 |
  grep -E 'transformer|^parameters|^us per token'

# Self-attention: a circle of listeners

taal trace --model runs/shakespeare "My lord, I will not" --html trace.html |
  sed -n '/^4 /,/^$/p;/^7 /,$p'

# Positions: numbered words

cat > lines.txt <<'EOF'
the dog bites the man
the man bites the dog
the king is dead
EOF

taal similar --model runs/shakespeare --pool input --lines lines.txt "the dog bites the man"

taal trace --model runs/shakespeare "the dog bites the man" | sed -n '/^3 /,/^$/p'

taal similar --model runs/shakespeare --lines lines.txt "the dog bites the man"

# Tokens

taal trace --model runs/shakespeare "The king sat on the cushion." | sed '/^3 /,$d'

taal tokenizer encode --tokenizer runs/shakespeare "The king sat on the cushion."

taal tokenizer encode --tokenizer runs/shakespeare --json "The king"

# Embeddings: positions in a space of meaning

for word in father he my shall; do
  echo "$word:"; taal similar --model runs/shakespeare --pool input --top 4 "$word"
done

taal embeddings plot --model runs/shakespeare --pool input --out words.svg \
  king queen duke lord prince father mother brother sister son daughter wife \
  is was are were have had has do did will shall may must can would should \
  I you he she we they me him her us them my your his our their thy \
  in on of with for by from to upon

# Learning by prediction

taal trace --checkpoints runs/shakespeare "My lord, I will not" | sed -n '/^6 /,/^$/p;/^8 /,$p'

taal generate --model runs/shakespeare --prompt "My lord, I will not" --max-tokens 40 --seed 1

taal fill --model runs/english-mlm "My lord, I will not [MASK] with thee." --rank go

taal fill --model runs/english-mlm "My [MASK], I will not go with thee."

# Fine-tuning: with 1 to 10 % of the work

cat > names.toml <<'EOF'
[data]
corpus = "names"

[train]
init_from = "runs/shakespeare"   # weights, shape and tokenizer
steps = 40
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

taal eval --model runs/shakespeare --text new.txt

taal train --recipe names.toml

taal eval --model runs/names --text new.txt

taal generate --model runs/names --prompt "ma" --max-tokens 30 --seed 1
