"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const at = (id) => document.getElementById(id);
  const n = data.tokens.length;
  const { say, signs } = data;
  const { n_layers: nLayers, n_heads: nHeads, is_causal: isCausal } = data.model;

  const escapes = { "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;" };
  const esc = (text) => String(text).replace(/[&<>"]/g, (character) => escapes[character]);
  // Spaces and line ends as signs, what has no shape as its number.
  const seen = (text) => text.replace(/ /g, "␣").replace(/\n/g, "⏎").replace(/\t/g, "⇥")
    .replace(/[\u0000-\u001f\u007f-\u009f\u200e\u200f\u202a-\u202e\u2066-\u2069]/g,
      (character) => "\\u{" + character.charCodeAt(0).toString(16).toUpperCase() + "}");
  const short = (text, length) => {
    const characters = [...seen(text)];
    return characters.length > length ? characters.slice(0, length - 1).join("") + "…" : characters.join("");
  };
  // A text with values in place of {names}.
  const fill = (text, values) => text.replace(/\{(\w+)\}/g, (all, key) => values[key] ?? all);
  const fixed = (number, digits) => number.toFixed(digits).replace(".", signs.decimal);
  const percent = (share) => fixed(100 * share, share < 0.0995 ? 2 : 1) + " %";
  const grouped = (number) => String(number).replace(/\B(?=(\d{3})+$)/g, signs.thousands);
  const name = (place) => short(data.tokens[place].text, 16);
  const stateName = (state) => state === 0 ? say.embedding : fill(say.layer_n, { layer: state });
  const headName = () => now.head < 0 ? say.all_heads : fill(say.one_head, { head: now.head + 1 });

  // Weights are bytes: of a causal model only the keys up to the query, row after row.
  const packed = Uint8Array.from(atob(data.attention), (character) => character.charCodeAt(0));
  const perHead = isCausal ? n * (n + 1) / 2 : n * n;
  // A recurrent network has no attention.
  const hasAttention = packed.length > 0;
  const ofHead = (layer, head, query, key) => {
    if (isCausal && key > query) return 0;
    const inside = isCausal ? query * (query + 1) / 2 + key : query * n + key;
    return packed[(layer * nHeads + head) * perHead + inside] / 255;
  };
  const weight = (layer, head, query, key) => {
    if (head >= 0) return ofHead(layer, head, query, key);
    let sum = 0;
    for (let one = 0; one < nHeads; one++) sum += ofHead(layer, one, query, key);
    return sum / nHeads;
  };

  // The attention to the source of a translation: all keys of every query.
  const source = data.source ?? null;
  const crossed = source === null ? [] : Uint8Array.from(atob(source.attention), (character) => character.charCodeAt(0));
  const crossOf = (layer, head, query, key) => {
    const m = source.tokens.length;
    if (head >= 0) return crossed[((layer * nHeads + head) * n + query) * m + key] / 255;
    let sum = 0;
    for (let one = 0; one < nHeads; one++) sum += crossOf(layer, one, query, key);
    return sum / nHeads;
  };

  // A state of the lens at a place: guesses as [word, probability], rank and probability of the last layer's choice, entropy.
  const cell = (state, place) => {
    const [flat, rank, probability, bits] = data.lens[state][place];
    const guesses = [];
    for (let i = 0; i < flat.length; i += 2) guesses.push([data.words[flat[i]], flat[i + 1]]);
    return { guesses, rank, probability, bits };
  };

  const now = { place: data.focus[0], layer: nLayers - 1, head: -1 };

  const table = (headings, rows) => "<table><thead><tr>" + headings.map((heading) =>
    `<th scope="col">${esc(heading)}</th>`).join("") + "</tr></thead><tbody>" +
    rows.map((row) => "<tr>" + row.join("") + "</tr>").join("") + "</tbody></table>";
  const head = (text, place) => `<th scope="row" data-place="${place ?? ""}">${esc(text)}</th>`;
  const data_ = (text, style) => `<td${style ? ` style="${style}"` : ""}>${esc(text)}</td>`;
  const label = (place) => place + " " + name(place);

  // Tables are made when they are opened, and made again where they depend on a choice.
  const tables = {
    "token-table": () => table([say.token, say.id, say.bytes, say.merges], data.tokens.map((token, place) => [
      head(label(place), place), data_(token.id), data_(token.bytes.match(/../g)?.join(" ") ?? ""),
      data_(token.merges.map(([left, right]) => seen(left) + "+" + seen(right)).join("  ")),
    ])),
    "embedding-table": () => table([say.token, say.token, say.place, say.sum], data.tokens.map((_, place) => [
      head(label(place), place), data_(fixed(data.embedding.tokens[place], 2)),
      data_(data.embedding.places.length ? fixed(data.embedding.places[place], 2) : say.none),
      data_(fixed(data.norms[0][place], 2)),
    ])),
    "attention-table": () => table([say.attends_to, ...data.tokens.map((_, place) => label(place))],
      data.tokens.map((_, query) => [head(label(query), query), ...data.tokens.map((_, key) =>
        isCausal && key > query ? data_(say.ahead) : heated(percent(weight(now.layer, now.head, query, key)),
          weight(now.layer, now.head, query, key)))])),
    "cross-table": () => table([say.attends_to, ...source.tokens.map((token, key) => key + " " + short(token.text, 16))],
      data.tokens.map((_, query) => [head(label(query), query), ...source.tokens.map((_, key) => {
        const share = crossOf(now.layer, now.head, query, key);
        return heated(percent(share), share);
      })])),
    "residual-table": () => table([say.token, ...data.norms.map((_, state) => stateName(state))],
      data.tokens.map((_, place) => [head(label(place), place),
        ...data.norms.map((row) => data_(fixed(row[place], 2)))])),
    "lens-table": () => table([say.token, ...data.lens.map((_, state) => stateName(state))],
      data.tokens.map((_, place) => [head(label(place), place), ...data.lens.map((_, state) => {
        const [word, probability] = cell(state, place).guesses[0];
        return heated(short(word, 12) + " " + percent(probability), probability);
      })])),
  };
  const heated = (text, share) => data_(text, `background: rgba(var(--heat), ${(0.3 * share).toFixed(3)})`);
  const fillTable = (id) => {
    const details = at(id);
    if (!details.open) return;
    details.querySelector(".scroll").innerHTML = tables[id]();
    markRows();
  };
  const markRows = () => document.querySelectorAll("th[data-place]").forEach((heading) =>
    heading.classList.toggle("is-followed", heading.dataset.place === String(now.place)));

  const showOnce = () => {
    const model = data.model;
    at("facts").textContent = fill(hasAttention ? say.facts : say.facts_recurrent, {
      kind: isCausal ? say.causal : say.masked, layers: nLayers, heads: nHeads,
      width: grouped(model.d_model), vocabulary: grouped(model.vocab_size),
    });
    at("counts").textContent = data.text === null ? say.given_ids : fill(say.counts, {
      characters: grouped([...data.text].length), bytes: grouped(new TextEncoder().encode(data.text).length), tokens: grouped(n),
    });
    at("how-cut").textContent = {
      BPE: say.cut_bpe, WordPiece: say.cut_wordpiece, Unigram: say.cut_unigram, WordLevel: say.cut_words,
    }[model.tokenizer] ?? say.no_tokenizer;
    at("about-embedding").textContent = fill(say.about_embedding, { width: grouped(model.d_model) });
    const { kind, shortest, longest } = data.embedding.positions;
    at("position").textContent = {
      learned: say.learned,
      sinusoidal: say.sinusoidal,
      rotary: say.rotary + (shortest === null ? "" : " " +
        fill(say.rotary_turns, { shortest: fixed(shortest, 1), longest: grouped(Math.round(longest)) })),
      alibi: say.alibi,
      relative: say.relative,
      none: hasAttention ? say.no_position : say.recurrent,
    }[kind];
    at("distribution").innerHTML = data.predictions.map((prediction) =>
      `<h3>${esc(fill(isCausal ? say.after_token : say.at_token, { place: prediction.place, token: name(prediction.place) }))}</h3>` +
      `<p>${esc(fill(say.undecided, { bits: fixed(prediction.bits, 2) }))}</p>` + bars(prediction.guesses)).join("") +
      (data.filled === null ? "" : `<h3>${esc(say.filled)}</h3><p class="text">${esc(data.filled)}</p>`);
    at("bytes").innerHTML = data.tokens.map((token, place) => token.bytes === "" ? "" :
      `<span data-byte="${place}">${token.bytes.match(/../g).join(" ")}</span>`).join("") || esc(say.none);
    showCheckpoints();
  };

  const bars = (guesses) => '<div class="bars">' + guesses.map(([word, probability]) =>
    `<b>${esc(seen(word))}</b><span>${percent(probability)}</span><i style="width: ${(100 * probability).toFixed(2)}%"></i>`)
    .join("") + "</div>";

  const showText = () => {
    const { span } = data.tokens[now.place];
    if (data.text === null) { at("text").textContent = data.tokens.map((token) => token.id).join(" "); return; }
    // Spans count characters.
    const characters = [...data.text];
    const part = (from, to) => esc(characters.slice(from, to).join(""));
    at("text").innerHTML = span === null ? esc(data.text) :
      part(0, span[0]) + "<mark>" + part(...span) + "</mark>" + part(span[1], characters.length);
  };

  const showToken = () => {
    const token = data.tokens[now.place];
    document.querySelectorAll("[data-byte]").forEach((chip) =>
      chip.classList.toggle("is-followed", chip.dataset.byte === String(now.place)));
    const merges = token.merges.map(([left, right]) =>
      `<li><code>${esc(seen(left))}</code> + <code>${esc(seen(right))}</code></li>`).join("");
    const row = (term, about) => `<dt>${esc(term)}</dt><dd>${about}</dd>`;
    at("token").innerHTML = `<dl>${row(say.place, now.place)}` +
      row(say.token, `<code>${esc(seen(token.text))}</code>${token.special ? " " + esc(say.special) : ""}`) +
      row(say.id, grouped(token.id)) + (merges ? row(say.merges, `<ol>${merges}</ol>`) : "") + "</dl>";
    const first = data.embedding.first[now.place];
    const most = Math.max(...first.map(Math.abs), 1e-9);
    const places = data.embedding.places;
    const numbers = first.slice(0, 8).map((value) => fixed(value, 2)).join(signs.decimal === "," ? "; " : " ");
    at("embedding").innerHTML = `<dl>${row(say.length_token, fixed(data.embedding.tokens[now.place], 2))}` +
      (places.length ? row(say.length_place, fixed(places[now.place], 2)) : "") +
      row(say.length_input, fixed(data.norms[0][now.place], 2)) +
      `<dt>${esc(say.first_numbers)}</dt><dd class="mono">${numbers} …</dd></dl>` +
      `<div class="strip" role="img" aria-label="${esc(fill(say.strip, { count: first.length }))}">` +
      first.map((value) => `<i style="background: ${value < 0 ? "var(--warm)" : "var(--accent)"}; opacity: ` +
        `${(Math.abs(value) / most).toFixed(2)}"></i>`).join("") + "</div>" +
      `<p class="quiet"><span class="legend below">${esc(say.strip_below)}</span><span class="legend above">${esc(say.strip_above)}</span>` +
      `${esc(fill(say.strip_note, { count: first.length, width: grouped(data.model.d_model), most: fixed(most, 2) }))}</p>`;
  };

  const showAttention = () => {
    if (!hasAttention) return;
    at("layer-value").textContent = fill(say.layer_of, { layer: now.layer + 1, layers: nLayers });
    at("arcs-title").textContent =
      fill(say.arcs_title, { token: name(now.place), place: now.place, layer: now.layer + 1, head: headName() });
    const width = Math.min(460, Math.max(300, at("arcs").clientWidth));
    const step = 20, left = width * 0.35, right = width * 0.65, bend = width * 0.15;
    const y = (place) => step * (place + 1);
    const rows = [], lines = [];
    for (let key = 0; key < n; key++) {
      const share = weight(now.layer, now.head, now.place, key);
      const isHere = key === now.place;
      rows.push(`<text x="${left - 8}" y="${y(key) + 4}" text-anchor="end" class="${isHere ? "is-followed" : "faint"}" ` +
        `font-size="13" data-row="${key}">${esc(short(data.tokens[key].text, 12))}</text>` +
        `<text x="${right + 8}" y="${y(key) + 4}" font-size="13">${esc(short(data.tokens[key].text, 8))}` +
        `${share >= 0.005 ? ` <tspan class="faint">${Math.round(100 * share)} %</tspan>` : ""}</text>`);
      if (share > 0) {
        lines.push(`<path class="attends" d="M${left} ${y(now.place)} C${left + bend} ${y(now.place)} ${right - bend} ${y(key)} ` +
          `${right} ${y(key)}" stroke-width="${(0.5 + 7 * share).toFixed(2)}" opacity="${(0.25 + 0.75 * share).toFixed(2)}"/>`);
      }
    }
    at("arcs").innerHTML = `<svg class="mono" viewBox="0 0 ${width} ${step * (n + 1)}" role="img" aria-label="${esc(fill(say.arcs_label, { layer: now.layer + 1, tokens: strongest() }))}">` +
      lines.join("") + rows.join("") + "</svg>";
    showHeat();
    showCross();
    fillTable("attention-table");
  };

  // The tokens of the source, each colored by the attention of the followed token, and the strongest.
  const showCross = () => {
    if (source === null) return;
    const shares = source.tokens.map((_, key) => crossOf(now.layer, now.head, now.place, key));
    at("cross-title").textContent =
      fill(say.cross_title, { token: name(now.place), place: now.place, layer: now.layer + 1, head: headName() });
    at("cross-source").innerHTML = source.tokens.map((token, key) =>
      `<span style="background: rgba(var(--heat), ${(0.6 * shares[key]).toFixed(3)})">${esc(token.special ? seen(token.text) : token.text)}</span>`).join("");
    at("cross-bars").innerHTML = bars(shares.map((share, key) => [source.tokens[key].text, share])
      .sort((a, b) => b[1] - a[1]).slice(0, 5));
    fillTable("cross-table");
  };

  // The three tokens with the largest shares, in words.
  const strongest = () => data.tokens.map((_, key) => [key, weight(now.layer, now.head, now.place, key)])
    .sort((a, b) => b[1] - a[1]).slice(0, 3).filter(([, share]) => share > 0)
    .map(([key, share]) => `“${name(key)}” ${Math.round(100 * share)} %`).join(", ");

  // Where the cells of the grid begin, and how large one is.
  const grid = { left: 0, top: 0, cell: 1 };
  const showHeat = () => {
    const canvas = at("heat");
    const style = getComputedStyle(document.documentElement);
    const color = (variable) => style.getPropertyValue(variable);
    const sharpness = Math.max(1, devicePixelRatio);
    const width = Math.min(544, Math.max(240, canvas.parentElement.clientWidth));
    const context = canvas.getContext("2d");
    const names = data.tokens.map((token) => short(token.text, 10));
    const font = "12px " + getComputedStyle(at("tokens")).fontFamily;
    context.font = font;
    const margin = Math.ceil(Math.max(...names.map((one) => context.measureText(one).width))) + 8;
    Object.assign(grid, { left: margin, top: margin, cell: (width - margin) / n });
    // Setting its size empties a canvas, and sets its font back.
    canvas.width = canvas.height = Math.round(width * sharpness);
    context.scale(sharpness, sharpness);
    const heat = color("--heat");
    for (let query = 0; query < n; query++) {
      for (let key = 0; key < n; key++) {
        const share = weight(now.layer, now.head, query, key);
        context.fillStyle = `rgba(${heat}, ${Math.sqrt(share).toFixed(3)})`;
        // A little larger than a cell where cells are not whole pixels, so that no gap shows.
        context.fillRect(margin + key * grid.cell, margin + query * grid.cell, grid.cell + 0.3, grid.cell + 0.3);
      }
    }
    nameCells(context, names, font, color);
    context.strokeStyle = color("--edge");
    context.strokeRect(margin - 0.5, margin - 0.5, n * grid.cell, n * grid.cell);
    context.strokeStyle = color("--warm");
    context.lineWidth = 2;
    context.strokeRect(margin, margin + now.place * grid.cell, n * grid.cell - 1, grid.cell);
    canvas.setAttribute("aria-label", fill(say.grid_label, { layer: now.layer + 1, place: now.place }));
  };

  // Names along both sides; of many tokens only those that have room, and always that of the followed one.
  const nameCells = (context, names, font, color) => {
    const each = Math.max(1, Math.ceil(13 / grid.cell));
    const isNamed = (place) => place === now.place || (place % each === 0 && Math.abs(place - now.place) >= each);
    context.textBaseline = "middle";
    names.forEach((one, place) => {
      if (!isNamed(place)) return;
      const middle = (place + 0.5) * grid.cell;
      context.font = (place === now.place ? "bold " : "") + font;
      context.fillStyle = color(place === now.place ? "--ink" : "--quiet");
      context.textAlign = "right";
      context.fillText(one, grid.left - 5, grid.top + middle);
      context.save();
      context.translate(grid.left + middle, grid.top - 5);
      context.rotate(-Math.PI / 2);
      context.textAlign = "left";
      context.fillText(one, 0, 0);
      context.restore();
    });
  };

  // A line with a dot and a number at each point.
  const chart = (where, values, names, label, digits) => {
    // As wide as its card, so that its letters are as large as others.
    const width = Math.max(260, where.clientWidth - 34), height = 190, bottom = 150;
    const most = Math.max(...values, 1e-9);
    const x = (i) => 40 + (width - 80) * (values.length < 2 ? 0.5 : i / (values.length - 1));
    const y = (value) => bottom - 120 * value / most;
    const each = Math.max(1, Math.ceil(values.length * 70 / (width - 80)));
    const points = values.map((value, i) => `${x(i).toFixed(1)},${y(value).toFixed(1)}`).join(" ");
    const marks = values.map((value, i) => {
      // The last one has its name, and what stands too close before it has none.
      const isNamed = i === values.length - 1 || (i % each === 0 && i + each <= values.length - 1);
      const texts = isNamed ? `<text x="${x(i)}" y="${y(value) - 9}" text-anchor="middle" font-size="14">${digits(value)}</text>` +
        `<text x="${x(i)}" y="${bottom + 26}" text-anchor="middle" font-size="13" class="faint">${esc(names[i])}</text>` : "";
      return `<circle class="dot" cx="${x(i)}" cy="${y(value)}" r="4"/>${texts}`;
    });
    where.innerHTML = `<svg class="mono" viewBox="0 0 ${width} ${height}" role="img" aria-label="${esc(label)}">` +
      `<line class="grid" x1="40" x2="${width - 40}" y1="${bottom}" y2="${bottom}"/><polyline class="line" points="${points}"/>` +
      marks.join("") + "</svg>";
  };

  const showResidual = () => {
    const values = data.norms.map((row) => row[now.place]);
    const names = values.map((_, state) => state === 0 ? say.start : String(state));
    chart(at("residual"), values, names,
      fill(say.residual_label, { token: name(now.place), first: fixed(values[0], 2), last: fixed(values.at(-1), 2) }),
      (value) => fixed(value, value < 10 ? 2 : value < 100 ? 1 : 0));
  };

  const showLens = () => {
    const choice = cell(nLayers, now.place).guesses[0][0];
    at("lens").innerHTML = '<div class="rows">' + data.lens.map((_, state) => {
      const { guesses, rank } = cell(state, now.place);
      const words = guesses.map(([word, probability]) =>
        `<span class="guess${word === choice ? " is-choice" : ""}"><b>${esc(short(word, 18))}</b> ${percent(probability)}` +
        `<u style="width: ${(100 * probability).toFixed(1)}%"></u></span>`).join("");
      return `<div class="row${state === nLayers ? " is-output" : ""}"><div class="what">${esc(stateName(state))}` +
        `${state === nLayers ? ", " + esc(say.output) : ""}<br>${esc(say.rank)} ${grouped(rank)}</div><div>${words}</div></div>`;
    }).join("") + "</div>";
  };

  const showCheckpoints = () => {
    const series = data.checkpoints;
    if (series.length === 0) return;
    at("checkpoints").hidden = false;
    const [word] = data.predictions[0].guesses[0];
    at("about-checkpoints").textContent = fill(say.about_checkpoints, { token: seen(word), place: data.predictions[0].place });
    chart(at("checkpoint-chart"), series.map((one) => one.probability), series.map((one) => grouped(one.step)),
      fill(say.checkpoints_label,
        { token: seen(word), first: percent(series[0].probability), last: percent(series.at(-1).probability) }),
      (value) => percent(value));
    const loss = (value) => data_(value === null ? say.none : fixed(value, 3));
    at("checkpoint-table").innerHTML = table([say.step, say.train_loss, say.val_loss, say.rank, say.chance, say.best_guess],
      series.map((one) => [head(grouped(one.step)), loss(one.train_loss), loss(one.val_loss), data_(grouped(one.rank)),
        data_(percent(one.probability)), data_(short(one.guesses[0][0], 18) + " " + percent(one.guesses[0][1]))]));
  };

  let timer = 0;
  const announce = () => {
    clearTimeout(timer);
    timer = setTimeout(() => {
      const { guesses } = cell(nLayers, now.place);
      const attends = hasAttention ? fill(say.attends, { layer: now.layer + 1, tokens: strongest() }) : "";
      at("live").textContent = fill(say.live, {
        place: now.place, token: name(now.place), attends, guess: seen(guesses[0][0]), probability: percent(guesses[0][1]),
      });
    }, 120);
  };

  const buttons = data.tokens.map((token, place) => {
    const button = document.createElement("button");
    button.type = "button";
    button.setAttribute("role", "radio");
    button.textContent = name(place);
    button.setAttribute("aria-label", `${place}: ${seen(token.text)}${data.focus.includes(place) ? ", " + say.asked_here : ""}`);
    button.classList.toggle("asked", data.focus.includes(place));
    for (const event of ["focus", "click", "mouseenter"]) button.addEventListener(event, () => follow(place));
    at("tokens").append(button);
    return button;
  });
  const follow = (place) => {
    now.place = place;
    buttons.forEach((button, index) => {
      button.setAttribute("aria-checked", String(index === place));
      button.tabIndex = index === place ? 0 : -1;
    });
    showText(); showToken(); showAttention(); showResidual(); showLens(); markRows(); announce();
  };
  at("tokens").addEventListener("keydown", (event) => {
    const moves = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1, Home: -n, End: n };
    if (!(event.key in moves)) return;
    event.preventDefault();
    buttons[Math.min(n - 1, Math.max(0, now.place + moves[event.key]))].focus();
  });
  at("arcs").addEventListener("mouseover", (event) => {
    const row = event.target.closest("[data-row]")?.dataset.row;
    if (row !== undefined && Number(row) !== now.place) follow(Number(row));
  });
  at("heat").addEventListener("mousemove", (event) => {
    const place = Math.floor((event.offsetY - grid.top) / grid.cell);
    if (place >= 0 && place < n && place !== now.place) follow(place);
  });
  const layer = at("layer"), select = at("head");
  layer.max = nLayers;
  layer.value = now.layer + 1;
  layer.addEventListener("input", () => { now.layer = Number(layer.value) - 1; showAttention(); announce(); });
  select.innerHTML = '<option value="-1">' + esc(say.all_heads_mean) + "</option>" +
    Array.from({ length: nHeads }, (_, index) => `<option value="${index}">${esc(fill(say.one_head, { head: index + 1 }))}</option>`).join("");
  select.addEventListener("change", () => { now.head = Number(select.value); showAttention(); announce(); });
  for (const id of Object.keys(tables)) at(id).addEventListener("toggle", () => fillTable(id));
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", showAttention);

  let drawnWidth = document.documentElement.clientWidth;
  addEventListener("resize", () => {
    if (document.documentElement.clientWidth === drawnWidth) return;
    drawnWidth = document.documentElement.clientWidth;
    showAttention(); showResidual(); showCheckpoints();
  });

  at("attention").hidden = !hasAttention;
  at("no-attention").hidden = hasAttention;
  at("cross").hidden = source === null;
  showOnce();
  follow(now.place);
  // On a narrow screen the tokens are one row, which shows the one that is followed.
  at("tokens").scrollLeft = buttons[now.place].offsetLeft - at("tokens").clientWidth / 2;
})();
