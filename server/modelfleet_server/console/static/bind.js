// Puts a view into the page that the server rendered. Text and attributes only.
//
//   data-text="path"             text content
//   data-attrs="path:attribute"  one or more, separated by spaces
//   data-shape="path"            which of the shapes a <use> shows
//   data-show="path"             hidden where the value is empty, false or 0
//   data-hide="path"             the other way round; a list counts as its length
//   data-list="path"             items by `key`, made from the <template> inside
function find(view, path) {
  return path.split(".").reduce((value, name) => value?.[name], view);
}

function truth(value) {
  return Array.isArray(value) ? value.length > 0 : Boolean(value);
}

function set(node, name, value) {
  if (node.getAttribute(name) !== value) node.setAttribute(name, value);
}

function bind(node, view) {
  const { text, attrs, shape, show, hide } = node.dataset;
  if (text !== undefined) {
    const value = String(find(view, text) ?? "");
    if (node.textContent !== value) node.textContent = value;
  }
  for (const pair of attrs?.split(" ") ?? []) {
    const [path, name] = pair.split(":");
    set(node, name, String(find(view, path) ?? ""));
  }
  if (shape) set(node, "href", `#${find(view, shape)}`);
  if (show !== undefined) node.toggleAttribute("hidden", !truth(find(view, show)));
  if (hide !== undefined) node.toggleAttribute("hidden", truth(find(view, hide)));
}

function list(container, items) {
  const template = container.querySelector(":scope > template");
  const held = new Map();
  for (const node of container.children) {
    if (node !== template) held.set(node.dataset.key, node);
  }
  let before = template;
  for (const item of items) {
    const known = held.get(item.key);
    const node = known ?? template.content.firstElementChild.cloneNode(true);
    held.delete(item.key);
    node.dataset.key = item.key;
    fill(node, item);
    // moving a node would take the focus from it
    if (before.nextElementSibling !== node) before.after(node);
    before = node;
  }
  for (const node of held.values()) node.remove();
}

export function fill(node, view) {
  bind(node, view);
  if (node.dataset.list !== undefined) return list(node, find(view, node.dataset.list) ?? []);
  for (const child of node.children) if (child.tagName !== "TEMPLATE") fill(child, view);
}
