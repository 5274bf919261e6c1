
"use strict";
(() => {
  const root = document.documentElement;
  const every = Number(root.dataset.every || 0) * 1000;
  const FEW = 12;
  const started = Date.now();
  let wanted = "";
  let failedSince = 0;

  const grid = () => document.getElementById("grid");
  const rows = () => [...document.querySelectorAll("tr[data-node]")];

  // Times in the reader's own zone; the title keeps what the page said.
  function localTimes() {
    const today = new Date().toDateString();
    for (const one of document.querySelectorAll("time[datetime]")) {
      const at = new Date(one.dateTime);
      if (Number.isNaN(at.getTime())) continue;
      one.title = one.textContent;
      const time = { hour: "2-digit", minute: "2-digit", hourCycle: "h23" };
      const day = at.toDateString() === today ? {} : { day: "numeric", month: "short" };
      one.textContent = at.toLocaleString("en-GB", { ...day, ...time });
    }
  }

  function ago(seconds) {
    if (seconds < 90) return `${Math.round(seconds)} s ago`;
    if (seconds < 5400) return `${Math.round(seconds / 60)} min ago`;
    return `${Math.round(seconds / 3600)} h ago`;
  }

  function showAge() {
    const at = Number(grid().dataset.at);
    const label = document.getElementById("age");
    if (!label || !at) return;
    const seconds = Math.max(0, Date.now() / 1000 - at);
    const late = every > 0 && seconds > 3 * every / 1000 + 15;
    label.classList.toggle("late", Boolean(failedSince) || late);
    if (failedSince) label.textContent = ` · no answer since ${ago((Date.now() - failedSince) / 1000)}; trying again`;
    else label.textContent = every ? ` · ${ago(seconds)}${late ? ": the rounds have stopped" : ""}` : "";
  }

  // A field to find a node by its name, its state or a tag, where there are many.
  function addFilter() {
    const table = document.querySelector("table.nodes");
    if (!table || rows().length <= FEW) return;
    const tools = document.createElement("div");
    tools.className = "tools";
    const field = document.createElement("input");
    field.type = "search";
    field.id = "find";
    field.placeholder = "name, state or tag";
    field.setAttribute("aria-label", "show only nodes whose name, state or tag has this in it");
    field.value = wanted;
    field.addEventListener("input", () => { wanted = field.value; filter(); });
    tools.append(field);
    table.before(tools);
    filter();
  }

  function filter() {
    const word = wanted.trim().toLowerCase();
    for (const row of rows()) {
      const text = [...row.querySelectorAll(".name, .below, .state")].map(one => one.textContent).join(" ");
      row.hidden = word !== "" && !text.toLowerCase().includes(word);
    }
  }

  function states() {
    return new Map(rows().map(row => [row.dataset.node, row.dataset.state]));
  }

  function swap(text) {
    const next = new DOMParser().parseFromString(text, "text/html");
    const fresh = next.getElementById("grid");
    if (!fresh) throw new Error("not the page");
    const before = states();
    const open = new Set([...document.querySelectorAll("tr[data-node] details[open]")].map(one => one.closest("tr").id));
    const focused = document.activeElement;
    const find = focused && focused.id === "find" ? [focused.selectionStart, focused.selectionEnd] : null;
    const row = focused && focused.tagName === "SUMMARY" ? focused.closest("tr").id : null;
    grid().replaceWith(document.adoptNode(fresh));
    document.title = next.title;
    const icon = next.querySelector("link[rel=icon]");
    if (icon) document.querySelector("link[rel=icon]").href = icon.href;
    for (const id of open) document.getElementById(id)?.querySelector("details")?.setAttribute("open", "");
    localTimes();
    addFilter();
    if (find) { const field = document.getElementById("find"); field?.focus(); field?.setSelectionRange(...find); }
    if (row) document.getElementById(row)?.querySelector("summary")?.focus();
    tell(before);
  }

  // What has changed since the last round stands out for a while, and is read out.
  function tell(before) {
    if (!before.size) return;
    const news = [];
    for (const row of rows()) {
      const was = before.get(row.dataset.node);
      if (was === row.dataset.state) continue;
      row.classList.add("changed");
      news.push(`${row.dataset.node} is ${row.dataset.state}`);
    }
    if (news.length) document.getElementById("news").textContent = news.slice(0, 5).join(", ");
  }

  const busy = () => {
    const chosen = document.getSelection();
    return document.hidden || (chosen && !chosen.isCollapsed && grid().contains(chosen.anchorNode));
  };

  async function refresh() {
    if (busy()) return;
    try {
      const answer = await fetch(location.pathname + location.search, {
        cache: "no-store", credentials: "same-origin", signal: AbortSignal.timeout(10000),
      });
      if (!answer.ok) throw new Error(String(answer.status));
      const text = await answer.text();
      if (!busy()) swap(text);
      failedSince = 0;
    } catch (error) {
      failedSince = failedSince || Date.now();
    }
    showAge();
  }

  localTimes();
  addFilter();
  showAge();
  if (every && location.protocol.startsWith("http")) {
    setInterval(refresh, every);
    setInterval(showAge, 1000);
    document.addEventListener("visibilitychange", () => {
      if (!document.hidden && Date.now() - started > every) refresh();
    });
  }
})();
