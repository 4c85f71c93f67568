// The list of requests, the latest first. Rows stay where they are while what they say changes.

import { h } from './dom.js';
import { bytes, duration, mood, time } from './format.js';

const place = document.querySelector('#list');
const rows = new Map();

/** Puts requests in, and takes those out that are not `kept`. */
export function show(requests, kept, chosen) {
  for (const [id, row] of rows) {
    if (kept(id)) continue;
    row.remove();
    rows.delete(id);
  }
  for (const request of [...requests].sort((a, b) => a.id - b.id)) {
    const row = h('li', null, link(request, request.id === chosen));
    const old = rows.get(request.id);
    rows.set(request.id, row);
    if (!old) {
      const after = [...place.children].find((other) => Number(other.dataset.id) < request.id);
      place.insertBefore(row, after ?? null);
    } else {
      const focused = old.contains(document.activeElement);
      old.replaceWith(row);
      if (focused) row.firstChild.focus({ preventScroll: true });
    }
    row.dataset.id = request.id;
  }
}

export function choose(id) {
  for (const [other, row] of rows) {
    if (other === id) row.firstChild.setAttribute('aria-current', 'true');
    else row.firstChild.removeAttribute('aria-current');
  }
}

export const count = () => rows.size;

function link(request, current) {
  const status = request.status ?? (request.error ? 'failed' : '…');
  return h('a', { href: `#/${request.id}`, class: 'row', 'aria-current': current && 'true' },
    h('span', { class: `status ${mood(request)}` }, String(status)),
    h('span', { class: 'what' },
      h('span', { class: 'method' }, request.method || '?'), ' ',
      h('span', { class: 'path' }, request.path || request.error)),
    h('span', { class: 'facts' },
      request.replay_of && h('span', { class: 'mark' }, `replay of ${request.replay_of}`),
      h('span', null, request.upgraded && request.ms === null ? 'open' : duration(request.ms)),
      h('span', null, bytes(request.bytes_out)),
      h('time', null, time(request.started_ms))));
}

// Up and down go through the list, as in a mail program.
place.addEventListener('keydown', (event) => {
  const step = { ArrowDown: 'nextElementSibling', ArrowUp: 'previousElementSibling', j: 'nextElementSibling', k: 'previousElementSibling' }[event.key];
  if (!step || event.ctrlKey || event.metaKey || event.altKey) return;
  const next = event.target.closest('li')?.[step]?.firstChild;
  if (!next) return;
  event.preventDefault();
  next.focus();
  next.click();
});
