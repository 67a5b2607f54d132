// Refreshes the page: fetches it again and replaces <main>. Shows times in the reader's time zone.
// Without this script the page is not refreshed, and its times are in UTC.
"use strict";

const root = document.documentElement;
const live = document.getElementById("live");
const pause = document.getElementById("pause");
const everyMs = 1000 * Number(root.dataset.refreshSeconds);
let timer = 0;
let lostAt = "";

function joined(parts, mark) {
  return parts.map((part) => String(part).padStart(2, "0")).join(mark);
}

function clock(date) {
  return joined([date.getHours(), date.getMinutes(), date.getSeconds()], ":");
}

function local(date) {
  return `${joined([date.getFullYear(), date.getMonth() + 1, date.getDate()], "-")} ${clock(date)}`;
}

function zone(date) {
  const ahead = -date.getTimezoneOffset();
  const [hours, minutes] = [Math.floor(Math.abs(ahead) / 60), Math.abs(ahead) % 60];
  return `UTC${ahead < 0 ? "-" : "+"}${hours}${minutes ? `:${minutes}` : ""}`;
}

function localise(within) {
  for (const text of within.querySelectorAll("time[datetime] .at")) {
    const date = new Date(text.parentElement.dateTime);
    if (Number.isNaN(date.getTime())) continue;
    text.textContent = "zone" in text.dataset ? `${local(date)} ${zone(date)}` : local(date);
  }
}

function say(text, state) {
  root.dataset.live = state;
  if (live.textContent !== text) live.textContent = text;
}

function schedule() {
  clearTimeout(timer);
  if (root.dataset.live !== "paused" && !document.hidden) timer = setTimeout(refresh, everyMs);
}

function refresh() {
  // XMLHttpRequest parses the HTML itself, so the script passes no string to innerHTML or a similar sink.
  const request = new XMLHttpRequest();
  request.open("GET", location.href);
  request.responseType = "document";
  request.timeout = 30000;
  request.onload = () => take(request);
  request.onerror = request.ontimeout = () => lose(live.dataset.lost);
  request.onloadend = schedule;
  request.send();
}

function take(request) {
  const fresh = request.response?.querySelector("main");
  if (root.dataset.live === "paused") return;
  if (request.status !== 200 || !fresh) return lose(`${live.dataset.refused} ${request.status},`);
  if (request.response.documentElement.dataset.edition !== root.dataset.edition) return location.reload();
  lostAt = "";
  say(live.dataset.on, "on");
  // Do not replace a text that the reader has selected: he may want to copy it.
  if (getSelection().isCollapsed) swap(fresh, request.response.title);
}

function lose(what) {
  lostAt ||= clock(new Date());
  say(`${what} ${lostAt}`, "lost");
}

function swap(fresh, title) {
  localise(fresh);
  const old = document.querySelector("main");
  const focused = old.contains(document.activeElement) ? document.activeElement : null;
  const [x, y] = [scrollX, scrollY];
  const boxes = [...old.querySelectorAll(".scroll[id]")].map((box) => [box.id, box.scrollLeft, box.scrollTop]);
  for (const details of old.querySelectorAll("details[id]")) {
    const same = find(fresh, details.id);
    if (same) same.open = details.open;
  }
  old.replaceWith(fresh);
  document.title = title;
  for (const [id, left, top] of boxes) find(fresh, id)?.scrollTo(left, top);
  if (focused) refocus(fresh, focused);
  scrollTo({ left: x, top: y, behavior: "instant" });
}

function find(within, id) {
  return within.querySelector(`#${CSS.escape(id)}`);
}

function refocus(fresh, was) {
  const href = was.getAttribute("href");
  const same = was.id ? find(fresh, was.id) : href && fresh.querySelector(`a[href="${CSS.escape(href)}"]`);
  (was.id === fresh.id ? fresh : same)?.focus({ preventScroll: true });
}

pause.addEventListener("click", () => {
  const paused = root.dataset.live !== "paused";
  pause.textContent = paused ? pause.dataset.resume : pause.dataset.pause;
  say(paused ? live.dataset.paused : live.dataset.on, paused ? "paused" : "on");
  if (paused) clearTimeout(timer);
  else refresh();
});

document.addEventListener("visibilitychange", () => {
  clearTimeout(timer);
  if (!document.hidden && root.dataset.live !== "paused") refresh();
});

localise(document);
pause.hidden = false;
say(live.dataset.on, "on");
schedule();
