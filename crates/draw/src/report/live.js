"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const at = (id) => document.getElementById(id);
  const written = new Date(data.written);
  const lang = document.documentElement.lang;

  // What the reader had open comes back after a reload; a browser that keeps nothing for files shows the page as it is.
  const key = "taal " + location.pathname;
  const kept = () => {
    try { return JSON.parse(sessionStorage.getItem(key)) ?? {}; } catch { return {}; }
  };
  const keep = () => {
    const state = {
      top: scrollY,
      reload: at("reload").checked,
      open: [...document.querySelectorAll("details")].map((one) => one.open),
      focus: [...document.querySelectorAll("summary, input")].indexOf(document.activeElement),
    };
    try { sessionStorage.setItem(key, JSON.stringify(state)); } catch { /* see above */ }
  };
  const before = kept();
  at("reload").checked = before.reload ?? true;
  document.querySelectorAll("details").forEach((one, index) => { one.open = before.open?.[index] ?? false; });

  at("switch").hidden = false;
  const local = written.toLocaleString(lang, { dateStyle: "medium", timeStyle: "medium" });
  at("written").textContent = local;

  const age = () => (Date.now() - written.getTime()) / 1000;
  if (age() > data.stale_s) {
    at("state").innerHTML = data.stale.replace("{time}", local);
  }

  // Last, because what is above changes the height of the page.
  document.querySelectorAll("summary, input")[before.focus ?? -1]?.focus({ preventScroll: true });
  if (before.top !== undefined) {
    history.scrollRestoration = "manual";
    scrollTo(0, before.top);
  }

  const reload = () => {
    // Not while text is selected, a tab is in the background or the reader has switched it off.
    const isBusy = document.hidden || !at("reload").checked || !getSelection().isCollapsed;
    // A page that nothing rewrites any more is read again less and less often, and not at all after a day.
    if (isBusy || age() > 86400) { wait(); return; }
    keep();
    location.reload();
  };
  const wait = () => setTimeout(reload, 1000 * Math.max(data.reload_s, Math.min(age() / 10, 600)));
  addEventListener("pagehide", keep);
  wait();
})();
