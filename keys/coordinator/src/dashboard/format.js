// Numbers and times as people read them.

import { h } from './dom.js';

/** Seconds by which the coordinator's clock is ahead of this device's. */
let ahead = 0;

/** Takes the `Date` of an answer in, so that "in 5 min" is right where this device's clock is not. */
export function setClock(date) {
  const server = Date.parse(date ?? '');
  if (Number.isFinite(server)) ahead = Math.round((server - Date.now()) / 1000);
}

/** The coordinator's time in whole Unix seconds. */
export function now() {
  return Math.floor(Date.now() / 1000) + ahead;
}

const UNITS = [['d', 86400], ['h', 3600], ['min', 60], ['s', 1]];

/** A length of time in its two largest units: `1 h 20 min`. */
export function span(seconds) {
  let rest = Math.max(0, Math.floor(seconds));
  const parts = [];
  for (const [unit, size] of UNITS) {
    const amount = Math.floor(rest / size);
    rest -= amount * size;
    if (amount > 0) parts.push(`${amount} ${unit}`);
    else if (parts.length > 0) break;
    if (parts.length === 2) break;
  }
  return parts.join(' ') || '0 s';
}

function relation(kind, at) {
  const away = at - now();
  if (kind === 'until') return away > 0 ? `${span(away)} left` : 'ended';
  // Clocks tell whole seconds, so that what has just happened may seem to lie ahead.
  if (away >= 5) return `in ${span(away)}`;
  return away > -5 ? 'just now' : `${span(-away).split(' ').slice(0, 2).join(' ')} ago`;
}

/** A moment in full, in this device's zone. */
export function moment(at) {
  return new Date(at * 1000).toLocaleString(undefined, { dateStyle: 'medium', timeStyle: 'medium' });
}

/** A moment as an element that keeps itself true: `3 min ago`, or with `until` the time that is left. */
export function time(at, kind = 'since') {
  if (at === null || at === undefined) return h('span', { class: 'faint' }, '–');
  const iso = new Date(at * 1000).toISOString();
  return h('time', { datetime: iso, title: moment(at), [`data-${kind}`]: at }, relation(kind, at));
}

/** Brings every moment on the page up to date. */
export function tick() {
  for (const kind of ['until', 'since']) {
    for (const element of document.querySelectorAll(`time[data-${kind}]`)) {
      const text = relation(kind, Number(element.dataset[kind]));
      if (element.textContent !== text) element.textContent = text;
    }
  }
}

const STEPS = ['B', 'KiB', 'MiB', 'GiB', 'TiB', 'PiB'];

/** An amount of data. */
export function bytes(amount) {
  let value = amount;
  let step = 0;
  while (value >= 1024 && step < STEPS.length - 1) {
    value /= 1024;
    step += 1;
  }
  return `${value.toLocaleString('en', { maximumFractionDigits: value < 10 && step > 0 ? 1 : 0 })} ${STEPS[step]}`;
}

/** A count. */
export function count(amount) {
  return amount.toLocaleString('en');
}

/** `1 key`, `2 keys`. */
export function plural(amount, one, many = `${one}s`) {
  return `${count(amount)} ${amount === 1 ? one : many}`;
}

/** Cents as money; less than one of them by its first three digits. */
export function money(cents, currency = 'USD') {
  const digits = cents > 0 && cents < 1 ? { maximumSignificantDigits: 3 } : { minimumFractionDigits: 2, maximumFractionDigits: 2 };
  return (cents / 100).toLocaleString('en', { style: 'currency', currency, ...digits });
}

/** The two ends of an id that is too long to read whole. */
export function short(id) {
  return id.length > 20 ? `${id.slice(0, 8)}…${id.slice(-6)}` : id;
}
