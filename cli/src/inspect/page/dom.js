// Elements from data. Text only ever becomes text: nothing here, and nothing that uses it, parses markup.

/** An element: attributes by name, `on…` functions as listeners, the rest as children. */
export function h(tag, attributes, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (value === undefined || value === null || value === false) continue;
    if (typeof value === 'function') element.addEventListener(name.slice(2), value);
    else if (name === 'value') element.value = value;
    else element.setAttribute(name, value === true ? '' : String(value));
  }
  element.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

let quiet;

/** A word at the bottom, also for those who listen. */
export function say(text) {
  document.querySelector('#said').replaceChildren(h('p', null, text));
  clearTimeout(quiet);
  quiet = setTimeout(() => document.querySelector('#said').replaceChildren(), 4000);
}
