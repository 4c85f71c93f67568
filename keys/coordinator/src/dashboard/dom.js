// Elements from data. Text only ever becomes text: nothing here, and nothing that uses it, parses markup.

const SVG = 'http://www.w3.org/2000/svg';

/** An element: attributes by name, `on…` functions as listeners, the rest as children. */
export function h(tag, attributes, ...children) {
  return fill(document.createElement(tag), attributes, children);
}

/** The same inside a picture. */
export function s(tag, attributes, ...children) {
  return fill(document.createElementNS(SVG, tag), attributes, children);
}

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (value === undefined || value === null || value === false) continue;
    if (typeof value === 'function') element.addEventListener(name.slice(2), value);
    else if (name === 'value') element.value = value;
    else element.setAttribute(name, value === true ? '' : String(value));
  }
  element.append(...nodes(children));
  return element;
}

function nodes(children) {
  return children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false);
}

/** Puts children in the place of all that is there. Whatever had the focus gets it back by its `data-focus`. */
export function replace(parent, ...children) {
  const focused = parent.contains(document.activeElement) ? document.activeElement : null;
  const name = focused?.closest('[data-focus]')?.dataset.focus;
  const at = name && 'selectionStart' in focused ? [focused.selectionStart, focused.selectionEnd] : null;
  parent.replaceChildren(...nodes(children));
  if (!name) return;
  const again = byFocus(name, parent);
  again?.focus({ preventScroll: true });
  if (again && at && at[0] !== null) again.setSelectionRange(...at);
}

/** The element that goes by this name for the focus. */
export function byFocus(name, root = document) {
  return root.querySelector(`[data-focus="${CSS.escape(name)}"]`);
}

let count = 0;

/** An id that nothing else has. */
export function unique(prefix) {
  count += 1;
  return `${prefix}-${count}`;
}
