// Elements of the page, made in one call each.

/** An element with attributes and children; `className` is its class, and an attribute without a value is left out. */
export function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  set(made, attributes);
  made.append(...children);
  return made;
}

/** The same in SVG. */
export function drawn(name, attributes = {}, ...children) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  set(made, attributes);
  made.append(...children);
  return made;
}

function set(made, attributes) {
  for (const [key, value] of Object.entries(attributes)) {
    if (value === null || value === undefined) continue;
    made.setAttribute(key === "className" ? "class" : key, value);
  }
}

/** A table in a region that scrolls by itself, with a heading per column and a heading at each row's start. */
export function table(label, headings, rows) {
  const head = element("tr", {}, ...headings.map((text) => element("th", { scope: "col" }, text)));
  const row = ([first, ...others]) =>
    element("tr", {}, element("th", { scope: "row" }, first), ...others.map((cell) => element("td", {}, cell)));
  const made = element("table", {}, element("thead", {}, head), element("tbody", {}, ...rows.map(row)));
  return element("div", { className: "scroll", tabindex: "0", role: "region", "aria-label": label }, made);
}

/** A bar that fills a share of its place. */
export function bar(share) {
  const made = element("span", { className: "bar" });
  made.style.inlineSize = `${Math.max(1, 100 * share)}%`;
  return made;
}

/** Moves among buttons of which one is chosen, with the arrow keys, Home and End. */
export function stepper(list, buttons, choose) {
  list.addEventListener("keydown", (event) => {
    const at = buttons.indexOf(document.activeElement);
    const to = { ArrowRight: at + 1, ArrowDown: at + 1, ArrowLeft: at - 1, ArrowUp: at - 1, Home: 0, End: buttons.length - 1 }[event.key];
    if (to === undefined || at < 0) return;
    event.preventDefault();
    const place = Math.min(Math.max(to, 0), buttons.length - 1);
    choose(place);
    buttons[place].focus();
  });
}
