"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const at = (id) => document.getElementById(id);
  const n = data.tokens.length;
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
  const percent = (share) => (100 * share).toFixed(share < 0.0995 ? 2 : 1) + " %";
  const grouped = (number) => String(number).replace(/\B(?=(\d{3})+$)/g, ",");
  const name = (place) => short(data.tokens[place].text, 16);
  const stateName = (state) => state === 0 ? "embedding" : "layer " + state;
  const counted = (count, what) => grouped(count) + " " + what + (count === 1 ? "" : "s");

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
    "token-table": () => table(["token", "id", "bytes", "merges"], data.tokens.map((token, place) => [
      head(label(place), place), data_(token.id), data_(token.bytes.match(/../g)?.join(" ") ?? ""),
      data_(token.merges.map(([left, right]) => seen(left) + "+" + seen(right)).join("  ")),
    ])),
    "embedding-table": () => table(["token", "token", "place", "sum"], data.tokens.map((_, place) => [
      head(label(place), place), data_(data.embedding.tokens[place].toFixed(2)),
      data_(data.embedding.places.length ? data.embedding.places[place].toFixed(2) : "none"),
      data_(data.norms[0][place].toFixed(2)),
    ])),
    "attention-table": () => table(["listens to →", ...data.tokens.map((_, place) => label(place))],
      data.tokens.map((_, query) => [head(label(query), query), ...data.tokens.map((_, key) =>
        isCausal && key > query ? data_("ahead") : heated(percent(weight(now.layer, now.head, query, key)),
          weight(now.layer, now.head, query, key)))])),
    "residual-table": () => table(["token", ...data.norms.map((_, state) => stateName(state))],
      data.tokens.map((_, place) => [head(label(place), place),
        ...data.norms.map((row) => data_(row[place].toFixed(2)))])),
    "lens-table": () => table(["token", ...data.lens.map((_, state) => stateName(state))],
      data.tokens.map((_, place) => [head(label(place), place), ...data.lens.map((_, state) => {
        const [word, probability] = cell(state, place).guesses[0];
        return heated(short(word, 12) + " " + percent(probability), probability);
      })])),
  };
  const heated = (text, share) => data_(text, `background: rgba(var(--heat), ${(0.3 * share).toFixed(3)})`);
  const fill = (id) => {
    const details = at(id);
    if (!details.open) return;
    details.querySelector(".scroll").innerHTML = tables[id]();
    markRows();
  };
  const markRows = () => document.querySelectorAll("th[data-place]").forEach((heading) =>
    heading.classList.toggle("is-followed", heading.dataset.place === String(now.place)));

  const showOnce = () => {
    const model = data.model;
    at("facts").textContent = `${isCausal ? "causal" : "masked"} model: ` +
      (hasAttention ? `${counted(nLayers, "layer")} of ${counted(nHeads, "head")}` : counted(nLayers, "recurrent layer")) +
      `, width ${grouped(model.d_model)}, ${grouped(model.vocab_size)} ids`;
    at("counts").textContent = data.text === null ? "The model was given ids." :
      `${counted([...data.text].length, "character")}, ${counted(new TextEncoder().encode(data.text).length, "byte")}, ${counted(n, "token")}`;
    at("how-cut").textContent = {
      BPE: "Byte-pair encoding begins with single bytes and joins the pair that training joined first, again and again.",
      WordPiece: "WordPiece takes the longest piece of its vocabulary that matches, again and again.",
      Unigram: "Unigram takes the pieces that are likeliest together.",
      WordLevel: "Each word or character of the vocabulary is a token.",
    }[model.tokenizer] ?? "The model has no tokenizer, so its tokens are numbers.";
    at("about-embedding").textContent = `Each id is looked up in a table and becomes ${counted(model.d_model, "number")}.`;
    const { kind, shortest, longest } = data.embedding.positions;
    at("position").textContent = {
      learned: "Each place has a learned vector, which is added to that of its token.",
      sinusoidal: "Each place has a vector of waves, which is added to that of its token.",
      rotary: "In attention, queries and keys are turned by their place (rotary positions)." + (shortest === null ? "" :
        ` Pairs of numbers make a full turn every ${shortest.toFixed(1)} to ${grouped(Math.round(longest))} places.`),
      alibi: "In attention, what is further away is heard less (ALiBi).",
      none: !hasAttention ? "Tokens are read one after another, each changing the state that the one before it left." :
        "Nothing tells the place but that a token sees only those before it.",
    }[kind];
    at("about-lens").textContent = "If the model stopped after a layer, what would it say at this token? Underlined is what the whole " +
      "model says, and the rank is that word's. The last row is the model's output.";
    at("distribution").innerHTML = data.predictions.map((prediction) =>
      `<h3>${isCausal ? "After" : "At"} token ${prediction.place}, ${esc(name(prediction.place))}</h3>` +
      `<p>${prediction.bits.toFixed(2)} bits undecided.</p>` + bars(prediction.guesses)).join("") +
      (data.filled === null ? "" : `<h3>Filled with whole words</h3><p class="text">${esc(data.filled)}</p>`);
    at("bytes").innerHTML = data.tokens.map((token, place) => token.bytes === "" ? "" :
      `<span data-byte="${place}">${token.bytes.match(/../g).join(" ")}</span>`).join("") || "none";
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
    at("token").innerHTML = `<dl><dt>place</dt><dd>${now.place}</dd><dt>token</dt><dd><code>${esc(seen(token.text))}</code>` +
      `${token.special ? " (special)" : ""}</dd><dt>id</dt><dd>${grouped(token.id)}</dd>` +
      (merges ? `<dt>merges</dt><dd><ol>${merges}</ol></dd>` : "") + "</dl>";
    const first = data.embedding.first[now.place];
    const most = Math.max(...first.map(Math.abs), 1e-9);
    const places = data.embedding.places;
    at("embedding").innerHTML = `<dl><dt>length of the token's vector</dt><dd>${data.embedding.tokens[now.place].toFixed(2)}</dd>` +
      (places.length ? `<dt>of its place's</dt><dd>${places[now.place].toFixed(2)}</dd>` : "") +
      `<dt>of what layer 1 reads</dt><dd>${data.norms[0][now.place].toFixed(2)}</dd>` +
      `<dt>its first numbers</dt><dd class="mono">${first.slice(0, 8).map((value) => value.toFixed(2)).join(" ")} …</dd></dl>` +
      `<div class="strip" role="img" aria-label="The first ${first.length} numbers as stripes, strong where they are far from 0">` +
      first.map((value) => `<i style="background: ${value < 0 ? "var(--warm)" : "var(--accent)"}; opacity: ` +
        `${(Math.abs(value) / most).toFixed(2)}"></i>`).join("") + "</div>";
  };

  const showAttention = () => {
    if (!hasAttention) return;
    at("layer-value").textContent = `${now.layer + 1} of ${nLayers}`;
    const which = now.head < 0 ? "all heads together" : "head " + (now.head + 1);
    at("arcs-title").textContent = `What ${name(now.place)} (place ${now.place}) listens to in layer ${now.layer + 1}, ${which}.`;
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
        lines.push(`<path class="listen" d="M${left} ${y(now.place)} C${left + bend} ${y(now.place)} ${right - bend} ${y(key)} ` +
          `${right} ${y(key)}" stroke-width="${(0.5 + 7 * share).toFixed(2)}" opacity="${(0.25 + 0.75 * share).toFixed(2)}"/>`);
      }
    }
    at("arcs").innerHTML = `<svg class="mono" viewBox="0 0 ${width} ${step * (n + 1)}" role="img" aria-label="${esc(listening().slice(2))}">` +
      lines.join("") + rows.join("") + "</svg>";
    showHeat();
    fill("attention-table");
  };

  const strongest = () => data.tokens.map((_, key) => [key, weight(now.layer, now.head, now.place, key)])
    .sort((a, b) => b[1] - a[1]).slice(0, 3).filter(([, share]) => share > 0);
  const listening = () => !hasAttention ? "" : `; layer ${now.layer + 1} listens to ` +
    strongest().map(([key, share]) => `“${name(key)}” ${Math.round(100 * share)} %`).join(", ");

  const showHeat = () => {
    const canvas = at("heat");
    const size = Math.max(1, Math.floor(512 / n));
    canvas.width = canvas.height = size * n;
    const context = canvas.getContext("2d");
    const style = getComputedStyle(document.documentElement);
    const heat = style.getPropertyValue("--heat");
    for (let query = 0; query < n; query++) {
      for (let key = 0; key < n; key++) {
        const share = weight(now.layer, now.head, query, key);
        context.fillStyle = `rgba(${heat}, ${Math.sqrt(share).toFixed(3)})`;
        context.fillRect(key * size, query * size, size, size);
      }
    }
    context.strokeStyle = style.getPropertyValue("--warm");
    context.lineWidth = Math.max(1, size / 8);
    context.strokeRect(0.5, now.place * size + 0.5, size * n - 1, size - 1);
    canvas.setAttribute("aria-label", `Heat map of layer ${now.layer + 1}; row ${now.place} is framed. The table below has its numbers.`);
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
    const names = values.map((_, state) => state === 0 ? "start" : String(state));
    chart(at("residual"), values, names,
      `Length of the vector of ${name(now.place)}: ${values[0].toFixed(2)} at the start, ${values.at(-1).toFixed(2)} at the end`,
      (value) => value.toFixed(value < 10 ? 2 : value < 100 ? 1 : 0));
  };

  const showLens = () => {
    const choice = cell(nLayers, now.place).guesses[0][0];
    at("lens").innerHTML = '<div class="rows">' + data.lens.map((_, state) => {
      const { guesses, rank } = cell(state, now.place);
      const words = guesses.map(([word, probability]) =>
        `<span class="guess${word === choice ? " is-choice" : ""}"><b>${esc(short(word, 18))}</b> ${percent(probability)}` +
        `<u style="width: ${(100 * probability).toFixed(1)}%"></u></span>`).join("");
      return `<div class="row${state === nLayers ? " is-output" : ""}"><div class="what">${stateName(state)}` +
        `${state === nLayers ? ", output" : ""}<br>rank ${grouped(rank)}</div><div>${words}</div></div>`;
    }).join("") + "</div>";
  };

  const showCheckpoints = () => {
    const series = data.checkpoints;
    if (series.length === 0) return;
    at("checkpoints").hidden = false;
    const [word] = data.predictions[0].guesses[0];
    at("about-checkpoints").textContent = `The chance that each checkpoint gives “${seen(word)}”, the traced model's own choice, at token ` +
      `${data.predictions[0].place}.`;
    chart(at("checkpoint-chart"), series.map((one) => one.probability), series.map((one) => grouped(one.step)),
      `Probability of ${seen(word)} by step: ${percent(series[0].probability)} at the first, ${percent(series.at(-1).probability)} at the last`,
      (value) => percent(value));
    const loss = (value) => data_(value === null ? "none" : value.toFixed(3));
    at("checkpoint-table").innerHTML = table(["step", "training loss", "validation loss", "rank", "chance", "best guess"],
      series.map((one) => [head(grouped(one.step)), loss(one.train_loss), loss(one.val_loss), data_(grouped(one.rank)),
        data_(percent(one.probability)), data_(short(one.guesses[0][0], 18) + " " + percent(one.guesses[0][1]))]));
  };

  let timer = 0;
  const say = () => {
    clearTimeout(timer);
    timer = setTimeout(() => {
      const { guesses } = cell(nLayers, now.place);
      at("live").textContent = `Token ${now.place}, “${name(now.place)}”${listening()}; the model's guess here: ` +
        `“${seen(guesses[0][0])}” ${percent(guesses[0][1])}.`;
    }, 120);
  };

  const buttons = data.tokens.map((token, place) => {
    const button = document.createElement("button");
    button.type = "button";
    button.setAttribute("role", "radio");
    button.textContent = name(place);
    button.setAttribute("aria-label", `${place}: ${seen(token.text)}${data.focus.includes(place) ? ", asked here" : ""}`);
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
    showText(); showToken(); showAttention(); showResidual(); showLens(); markRows(); say();
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
    const place = Math.floor(event.offsetY / event.target.clientHeight * n);
    if (place >= 0 && place < n && place !== now.place) follow(place);
  });
  const layer = at("layer"), select = at("head");
  layer.max = nLayers;
  layer.value = now.layer + 1;
  layer.addEventListener("input", () => { now.layer = Number(layer.value) - 1; showAttention(); say(); });
  select.innerHTML = '<option value="-1">all heads together (mean)</option>' +
    Array.from({ length: nHeads }, (_, index) => `<option value="${index}">head ${index + 1}</option>`).join("");
  select.addEventListener("change", () => { now.head = Number(select.value); showAttention(); say(); });
  for (const id of Object.keys(tables)) at(id).addEventListener("toggle", () => fill(id));
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", showAttention);

  let drawnWidth = document.documentElement.clientWidth;
  addEventListener("resize", () => {
    if (document.documentElement.clientWidth === drawnWidth) return;
    drawnWidth = document.documentElement.clientWidth;
    showAttention(); showResidual(); showCheckpoints();
  });

  at("attention").hidden = !hasAttention;
  at("no-attention").hidden = hasAttention;
  showOnce();
  follow(now.place);
  // On a narrow screen the tokens are one row, which shows the one that is followed.
  at("tokens").scrollLeft = buttons[now.place].offsetLeft - at("tokens").clientWidth / 2;
})();
