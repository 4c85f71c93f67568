// One request: its head and body, its answer's, and what can be done with it.

import * as api from './api.js';
import { h, say } from './dom.js';
import { edit } from './edit.js';
import { bytes, duration, mood, readable, time } from './format.js';
import { signature } from './signature.js';

const place = document.querySelector('#detail');
let shown = false;
/** What was asked for last: what comes of an earlier question is for nobody. */
let newest = 0;
/** Another one was chosen, and is not drawn yet. */
let renewed = false;
/** What is drawn, as text. */
let drawn;

/** Shows a request; `fresh` when another one was chosen, which has its secrets masked again. */
export async function show(id, fresh) {
  if (fresh) {
    shown = false;
    renewed = true;
  }
  newest += 1;
  const mine = newest;
  let request, parts;
  try {
    request = await api.one(id, shown);
    parts = await Promise.all([message('Request', request.request), message('Answer', request.response)]);
  } catch (error) {
    if (mine === newest) throw error;
    return;
  }
  if (mine !== newest) return;
  // What is as it was stays, with the button that somebody is just pressing.
  const told = JSON.stringify([shown, request]);
  if (!renewed && told === drawn) return;
  const open = renewed ? null : place.querySelector('.doing[data-open]');
  [drawn, renewed] = [told, false];
  // Whoever is at work below is not disturbed.
  const doing = open ?? h('div', { class: 'doing' });
  place.replaceChildren(head(request, doing), doing, ...parts.filter(Boolean));
}

export function nothing(text) {
  newest += 1;
  drawn = undefined;
  place.replaceChildren(h('p', { class: 'empty' }, text));
}

function head(request, doing) {
  const act = (work) => async (event) => {
    const button = event.currentTarget;
    button.setAttribute('aria-busy', 'true');
    try {
      await work(button);
    } catch (error) {
      say(`That did not work: ${error.message}.`);
    }
    button.removeAttribute('aria-busy');
  };
  const put = (element) => {
    doing.replaceChildren(element);
    doing.dataset.open = '';
    element.querySelector('input, select, textarea')?.focus();
  };
  const close = () => {
    doing.replaceChildren();
    delete doing.dataset.open;
  };
  const again = async (content) => {
    const { id } = await api.replay(request.id, content);
    say(`Sent again as number ${id}.`);
    close();
    location.hash = `#/${id}`;
  };
  const curl = async () => {
    const command = (await api.curl(request.id)).curl;
    try {
      await navigator.clipboard.writeText(command);
      say('Copied, with its secrets.');
    } catch {
      put(h('textarea', { readonly: true, rows: 8, 'aria-label': 'curl command', value: command }));
    }
  };
  const whole = request.request?.body.whole && !request.upgraded;
  return h('div', { class: 'head' },
    h('a', { href: '#/', class: 'back' }, '← All requests'),
    h('h2', null, h('span', { class: 'method' }, request.method || '?'), ' ', h('span', { class: 'long' }, request.path)),
    h('p', { class: 'marks' },
      h('span', { class: `mark ${mood(request)}` }, request.status ? `${request.status} ${request.response.reason}` : 'no answer'),
      request.error && h('span', { class: 'mark bad' }, request.error),
      request.upgraded && h('span', { class: 'mark' }, 'upgraded'),
      request.replay_of && h('a', { class: 'mark', href: `#/${request.replay_of}` }, `replay of ${request.replay_of}`),
      h('span', { class: 'faint' }, `${time(request.started_ms)} · ${duration(request.ms)} · ${bytes(request.bytes_in)} in · ${bytes(request.bytes_out)} out`)),
    h('div', { class: 'actions' },
      whole && h('button', { type: 'button', class: 'button primary', id: 'replay', onclick: act(() => again()) }, 'Replay'),
      whole && h('button', { type: 'button', class: 'button', id: 'edit', onclick: () => put(edit(request, again, close)) }, 'Edit and replay'),
      whole && h('button', { type: 'button', class: 'button', id: 'curl', onclick: act(curl) }, 'Copy as curl'),
      request.request && h('button', { type: 'button', class: 'button', id: 'sign', onclick: () => put(signature(request, close)) }, 'Check signature'),
      request.secrets && h('button', {
        type: 'button', class: 'button', id: 'secrets', 'aria-pressed': String(shown),
        onclick: act(async () => {
          shown = !shown;
          await show(request.id, false);
          document.querySelector('#secrets')?.focus();
        }),
      }, shown ? 'Hide secrets' : 'Show secrets')));
}

async function message(title, part) {
  if (!part) return null;
  const text = await readable(part.body, part.headers);
  return h('section', null,
    h('h3', null, title),
    h('div', { class: 'headers' }, h('table', null, h('tbody', null,
      part.headers.map(([name, value]) => h('tr', null, h('th', { scope: 'row' }, name), h('td', null, value)))))),
    part.body.length > 0 && content(part.body, text));
}

function content(body, text) {
  const kept = Math.floor((body.text?.length ?? (body.base64?.length ?? 0) * 0.75));
  return h('div', { class: 'content' },
    !body.whole && h('p', { class: 'faint' }, kept
      ? `The beginning of ${bytes(body.length)}; of a body, 1 MiB is kept.`
      : `${bytes(body.length)}, which were not kept.`),
    text !== null && text !== '' && h('pre', { tabindex: '0' }, text),
    text === null && kept > 0 && h('p', { class: 'faint' }, `${bytes(body.length)} that are no text.`));
}
