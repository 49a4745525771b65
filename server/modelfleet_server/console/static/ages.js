// Ages that count on between two events; the same units as `words.age` on the server.
const UNITS = [["d", 86_400_000], ["h", 3_600_000], ["min", 60_000]];

export function age(then, now) {
  const passed = Math.max(now - then, 0);
  for (const [unit, length] of UNITS) {
    if (passed >= length) return `${Math.floor(passed / length)} ${unit}`;
  }
  return `${Math.floor(passed / 1000)} s`;
}

export function tick(root, now) {
  for (const node of root.querySelectorAll("time[data-ms]")) {
    const then = Number(node.dataset.ms);
    if (then === 0) continue; // never: the server's word stands
    const iso = new Date(then).toISOString().slice(0, 19) + "Z";
    if (node.title !== iso) {
      node.title = iso;
      node.dateTime = iso;
    }
    const text = age(then, now);
    if (node.textContent !== text) node.textContent = text;
  }
}
