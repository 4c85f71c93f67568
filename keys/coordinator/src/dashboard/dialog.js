// Dialogs: modal, closed by Escape, the focus kept inside and given back.

import { byFocus, h, unique } from './dom.js';
import { button, failure, working } from './ui.js';

/**
 * Opens a dialog and returns its handle. `keep` refuses Escape: for what is shown once.
 * `closed` is called when it is gone.
 */
export function open(title, { keep = false, closed, wide = false } = {}) {
  const opener = document.activeElement;
  const opened = opener?.closest?.('[data-focus]')?.dataset.focus;
  const said = document.getElementById('said');
  const heading = h('h2', { id: unique('title'), tabindex: -1 }, title);
  const body = h('div', { class: 'dialog-body' });
  // Browsers that know `closedby` let nothing close it, such as the way back on a phone; the others are told by the events.
  const closedby = keep ? 'none' : undefined;
  const element = h('dialog', { class: wide ? 'wide' : undefined, closedby, 'aria-labelledby': heading.id }, heading, body);
  const stays = (event) => {
    if (keep || element.dataset.busy) event.preventDefault();
  };
  element.addEventListener('cancel', stays);
  element.addEventListener('keydown', (event) => {
    // `cancel` alone is not enough: a browser lets a page refuse it once, and closes at the second Escape.
    if (event.key === 'Escape') stays(event);
    trap(event, element);
  });
  element.addEventListener('close', () => {
    // What is said must be where it can be heard: everything outside a dialog is silent.
    (document.querySelector('dialog[open]') ?? document.body).append(said);
    element.remove();
    const back = opener?.isConnected ? opener : opened && byFocus(opened);
    (back || document.querySelector('main h1'))?.focus();
    closed?.();
  });
  document.body.append(element);
  element.showModal();
  element.append(said);
  return {
    element,
    heading,
    close() {
      // Now, and not when `close` is told: a secret that was put away is nowhere in the page from here on.
      body.replaceChildren();
      element.close();
    },
    show(...children) {
      body.replaceChildren(...children.flat().filter(Boolean));
      const first = body.querySelector('[autofocus]') ?? body.querySelector('input:not([type=hidden]), select, button');
      (first ?? heading).focus();
    },
  };
}

/** Tab goes round inside; the browser's own dialog would let it out into its bars. */
function trap(event, element) {
  if (event.key !== 'Tab') return;
  const stops = [...element.querySelectorAll('a[href], button, input, select, textarea, summary')];
  const usable = stops.filter((stop) => !stop.disabled && stop.offsetParent !== null);
  const [first, last] = [usable[0], usable.at(-1)];
  if (!first) return;
  const outside = !usable.includes(document.activeElement);
  if (event.shiftKey && (document.activeElement === first || outside)) {
    event.preventDefault();
    last.focus();
  } else if (!event.shiftKey && document.activeElement === last) {
    event.preventDefault();
    first.focus();
  }
}

/**
 * A form in a dialog. `work` gets the fields' values; when it succeeds the dialog closes, or shows what `work`
 * returned. What it throws is shown beside the fields, which keep what was typed.
 */
export function form(title, { intro = [], fields = [], action, danger = false, work, wide, closed }) {
  const dialog = open(title, { wide, closed });
  const trouble = h('div', { role: 'alert' });
  const submit = button(action, { kind: danger ? 'danger' : 'primary', type: 'submit' });
  const cancel = button('Cancel', { onclick: dialog.close, autofocus: danger && fields.length === 0 });
  const element = h('form', {
    onsubmit: async (event) => {
      event.preventDefault();
      if (dialog.element.dataset.busy) return;
      trouble.replaceChildren();
      dialog.element.dataset.busy = '1';
      const values = Object.fromEntries(new FormData(element));
      try {
        const after = await working(submit, () => work(values, element));
        delete dialog.element.dataset.busy;
        if (after instanceof Node || Array.isArray(after)) done(dialog, after);
        else dialog.close();
      } catch (problem) {
        delete dialog.element.dataset.busy;
        trouble.replaceChildren(failure(problem));
      }
    },
  }, intro, fields, trouble, h('div', { class: 'actions' }, cancel, submit));
  dialog.show(element);
  return dialog;
}

/** The last words of a dialog; what was asked is answered. */
function done(dialog, content) {
  dialog.heading.textContent = dialog.heading.textContent.replace(/\?$/, '');
  dialog.show(h('div', { role: 'status' }, content), h('div', { class: 'actions' },
    button('Done', { kind: 'primary', onclick: dialog.close, autofocus: true })));
}

/** Shows a secret that is never shown again; it goes only by its button. */
export function once(title, content, closed) {
  const dialog = open(title, { keep: true, wide: true, closed });
  dialog.show(content, h('div', { class: 'actions' }, button('I have saved it', { kind: 'primary', onclick: dialog.close })));
  return dialog;
}
