// The pieces that pages are made of.

import { h, unique } from './dom.js';
import { Trouble } from './api.js';

/** A button; `onclick` may return a promise, for the time of which it cannot be pressed again. */
export function button(label, { kind = 'plain', onclick, type = 'button', focus, ...more } = {}) {
  const press = onclick && ((event) => {
    if (event.currentTarget.ariaDisabled) return;
    const outcome = onclick(event);
    if (outcome instanceof Promise) working(event.currentTarget, () => outcome).catch((error) => say(explain(error)));
  });
  return h('button', { type, class: `button ${kind}`, onclick: press, 'data-focus': focus, ...more }, label);
}

/** Marks a button as busy while the work goes on. It keeps the focus, which one that is disabled would lose. */
export async function working(element, work) {
  element.ariaBusy = 'true';
  element.ariaDisabled = 'true';
  try {
    return await work();
  } finally {
    element.ariaBusy = null;
    element.ariaDisabled = null;
  }
}

/** Says something to everybody, also to those who hear the page. */
export function say(text) {
  const region = document.getElementById('said');
  const line = h('p', null, text);
  region.replaceChildren(line);
  setTimeout(() => line.remove(), 6000);
}

/** A failure in one line. */
export function explain(error) {
  return error instanceof Trouble ? `${sentence(error.message)} ${error.help ?? ''}`.trim() : `This page failed: ${error.message}`;
}

function sentence(text) {
  const line = text.charAt(0).toUpperCase() + text.slice(1);
  return /[.!?]$/.test(line) ? line : `${line}.`;
}

/** A failure as a box: what happened, what to do. */
export function failure(error, again) {
  const known = error instanceof Trouble;
  if (!known) console.error(error);
  return h('div', { class: 'notice bad' },
    h('p', { class: 'strong' }, known ? sentence(error.message) : 'This page failed.'),
    h('p', null, known ? (error.help ?? '') : `${error.message}. Reload it; if it fails again, report what you did.`),
    again && button('Try again', { onclick: again }));
}

/** A part that this coordinator does not have. */
export function missing(what) {
  return h('div', { class: 'notice' },
    h('p', { class: 'strong' }, `This coordinator does not offer ${what} yet.`),
    h('p', null, 'Update mytunnel on the server; this page shows it as soon as it is there.'));
}

/** Nothing to show: why, and what to do next. */
export function empty(title, text, ...more) {
  return h('div', { class: 'empty' }, h('p', { class: 'strong' }, title), text && h('p', null, text), more);
}

/** Text that one copies: a command, a key. */
export function copyable(text, { label = 'Copy', secret = false, describe = 'text' } = {}) {
  const copy = async () => {
    try {
      await navigator.clipboard.writeText(text);
      say('Copied.');
    } catch {
      const range = document.createRange();
      range.selectNodeContents(code);
      getSelection().removeAllRanges();
      getSelection().addRange(range);
      say('This browser does not let the page copy. It is selected: press Ctrl+C or ⌘C.');
    }
  };
  const code = h('code', { tabindex: 0, 'aria-label': describe }, text);
  return h('div', { class: secret ? 'copyable secret' : 'copyable' }, code, button(label, { onclick: copy, 'aria-label': `${label} ${describe}` }));
}

/** A command line with what it is for. */
export function command(text, why) {
  return h('div', { class: 'command' }, why && h('p', null, why), copyable(text, { describe: 'command' }));
}

/** A labelled field. */
export function field(label, attributes, { help, options } = {}) {
  const id = unique('field');
  const hint = help && h('p', { id: `${id}-help`, class: 'hint' }, help);
  const named = { id, 'aria-describedby': hint ? hint.id : undefined, ...attributes };
  const input = options
    ? h('select', named, options.map(([value, text]) => h('option', { value, selected: value === attributes.value }, text)))
    : h('input', { type: 'text', autocomplete: 'off', ...named });
  return h('div', { class: 'field' }, h('label', { for: id }, label), input, hint);
}

/** A check box with its words. */
export function check(label, attributes) {
  const id = unique('check');
  return h('div', { class: 'check' }, h('input', { type: 'checkbox', id, ...attributes }), h('label', { for: id }, label));
}

/** A small mark with a word: `good`, `bad`, `quiet` or nothing. */
export function mark(text, kind = '') {
  return h('span', { class: `mark ${kind}` }, text);
}

/**
 * A table, which a narrow screen shows as cards. `columns`: `{ label, cell(row), kind }`; `name(row)` says what a row
 * is called, for those who hear the table.
 */
export function table(caption, columns, rows, { key } = {}) {
  const cells = (row) => columns.map(({ label, cell, kind }, at) =>
    h(at === 0 ? 'th' : 'td', {
      role: at === 0 ? 'rowheader' : 'cell', scope: at === 0 ? 'row' : undefined,
      class: kind, 'data-label': label || undefined,
    }, h('div', { class: 'cell' }, cell(row))));
  const head = columns.map(({ label, kind }) =>
    h('th', { role: 'columnheader', scope: 'col', class: kind }, label || h('span', { class: 'hidden' }, 'Actions')));
  return h('div', { class: 'table' }, h('table', { role: 'table' },
    h('caption', { class: 'hidden' }, caption),
    h('thead', { role: 'rowgroup' }, h('tr', { role: 'row' }, head)),
    h('tbody', { role: 'rowgroup' }, rows.map((row) => h('tr', { role: 'row', 'data-key': key?.(row) }, cells(row))))));
}

/** A part of a page with its heading. */
export function section(title, { actions, intro, id } = {}, ...children) {
  const heading = h('h2', { id: id ?? unique('part') }, title);
  return h('section', { 'aria-labelledby': heading.id },
    h('div', { class: 'head' }, heading, actions && h('div', { class: 'actions' }, actions)),
    intro && h('p', { class: 'intro' }, intro), children);
}

/** A list of facts. */
export function facts(pairs) {
  return h('dl', { class: 'facts' }, pairs.filter(Boolean).map(([term, value]) =>
    h('div', null, h('dt', null, term), h('dd', null, value))));
}
