// Keeps a page live: one stream of server-sent events, put in as text and attributes.
import { fill } from "./bind.js";
import { tick } from "./ages.js";

const SILENT_MS = 25_000; // the server says something every 10 s
const AGAIN_MS = [1_000, 2_000, 5_000, 10_000];
const SPEAK_MS = 5_000;

const page = document.querySelector("[data-live]");
const status = document.querySelector("[data-status]");
const heardAt = document.querySelector("[data-heard]");
const speaker = document.querySelector("[data-speak]");

let source = null;
let skew = 0;
let failures = 0;
let timer = 0;
let spokenAt = 0;

function say(state) {
  if (status.dataset.status !== state) status.dataset.status = state;
}

function speak(text) {
  if (!speaker || !text || speaker.textContent === text) return;
  if (Date.now() - spokenAt < SPEAK_MS) return;
  spokenAt = Date.now();
  speaker.textContent = text;
}

function hear(message) {
  const view = JSON.parse(message.data);
  failures = 0;
  skew = view.at_ms - Date.now();
  heardAt.textContent = new Date(view.at_ms).toISOString().slice(11, 19) + " UTC";
  fill(page, view);
  tick(page, view.at_ms);
  speak(view.summary ?? view.reason);
  say("live");
  watch(SILENT_MS);
}

function watch(wait) {
  clearTimeout(timer);
  timer = setTimeout(lose, wait);
}

function lose() {
  say("lost");
  close();
  const wait = AGAIN_MS[Math.min(failures, AGAIN_MS.length - 1)];
  failures += 1;
  timer = setTimeout(open, wait * (0.5 + Math.random()));
}

function close() {
  clearTimeout(timer);
  source?.close();
  source = null;
}

function open() {
  close();
  source = new EventSource(page.dataset.live);
  source.addEventListener("view", hear);
  source.addEventListener("error", lose);
  watch(SILENT_MS);
}

// Browsers allow six connections to one server: a page that nobody sees needs none.
document.addEventListener("visibilitychange", () => (document.hidden ? close() : open()));
addEventListener("pagehide", close);
setInterval(() => tick(page, Date.now() + skew), 1000);
if (!document.hidden) open();
