// Use over time, and what each key may cost a month.

import { get, optional, put } from './api.js';
import { bars } from './chart.js';
import { form } from './dialog.js';
import { h } from './dom.js';
import { bytes, count, money, now, span } from './format.js';
import { told } from './revoke.js';
import { button, empty, field, mark, missing, section, table } from './ui.js';

const RANGES = {
  day: { label: 'Last 24 hours', by: 'hour', seconds: 86_400 },
  month: { label: 'Last 30 days', by: 'day', seconds: 30 * 86_400 },
  year: { label: 'Last 12 months', by: 'month', seconds: 365 * 86_400 },
};
const STEP = { hour: 3600, day: 86_400 };

/** What the picture may show of a point. */
const METERS = {
  cents: { label: 'Cost', of: (point) => point.cents, text: money },
  bytes: { label: 'Data', of: (point) => point.bytes_in + point.bytes_out, text: bytes },
  requests: { label: 'Requests', of: (point) => point.requests, text: count },
  seconds: { label: 'Tunnel time', of: (point) => point.tunnel_seconds, text: span },
};

export const page = {
  title: 'Budgets and use',
  topics: ['usage', 'keys'],
  load: async ({ params }) => {
    const range = RANGES[params.get('range')] ?? RANGES.month;
    const to = now();
    // Whole steps, so that what was read twice in a moment is the same.
    const from = Math.floor((to - range.seconds) / 3600) * 3600;
    const query = new URLSearchParams({ from: String(from), to: String(Math.ceil(to / 3600) * 3600), by: range.by });
    // Budgets are of the month, whatever time the picture is of.
    const ofMonth = new URLSearchParams({ by: 'month' });
    for (const part of [query, ofMonth]) if (params.get('project')) part.set('project', params.get('project'));
    const [usage, month, { projects }] = await Promise.all([
      optional(get(`/usage?${query}`)), optional(get(`/usage?${ofMonth}`)), get('/projects'),
    ]);
    return { usage, month, projects, from };
  },
  view({ usage, month, projects, from }, context) {
    if (!usage) return missing('metering and budgets');
    const range = RANGES[context.params.get('range')] ?? RANGES.month;
    const meter = METERS[context.state.meter ?? 'cents'];
    const points = filled(usage.points, range.by, from);
    return [
      filters(projects, context),
      section(`${meter.label}, ${range.label.toLowerCase()}`, {},
        usage.points.length === 0
          ? empty('Nothing was used in that time.', 'Bytes, requests and tunnel time of every key are counted at the relays, and appear here within seconds.')
          : [bars(points.map((point) => ({ at: point.at, label: when(point.at, range.by), value: meter.of(point) })), { title: `${meter.label}, ${range.label.toLowerCase()}`, text: meter.text }),
            h('details', { class: 'as-table' }, h('summary', { 'data-focus': 'as table' }, 'The same as a table'), numbers(usage.points, range.by))]),
      budgets(month, projects, context),
    ];
  },
};

function filters(projects, context) {
  const { params, state } = context;
  const choose = (name, value) => {
    const query = new URLSearchParams(params);
    if (value) query.set(name, value);
    else query.delete(name);
    context.go(`usage?${query}`);
  };
  return h('div', { class: 'filters' },
    field('Time', { value: params.get('range') ?? 'month', 'data-focus': 'range', onchange: (event) => choose('range', event.target.value) },
      { options: Object.entries(RANGES).map(([name, { label }]) => [name, label]) }),
    field('Show', { value: state.meter ?? 'cents', 'data-focus': 'meter', onchange: (event) => {
      state.meter = event.target.value;
      context.redraw();
    } }, { options: Object.entries(METERS).map(([name, { label }]) => [name, label]) }),
    field('Project', { value: params.get('project') ?? '', 'data-focus': 'project', onchange: (event) => choose('project', event.target.value) },
      { options: [['', 'All projects'], ...projects.map((project) => [project.id, project.name])] }));
}

/** The points with the empty steps between them, so that the picture is true in time. */
export function filled(points, by, from, to = now()) {
  const none = { bytes_in: 0, bytes_out: 0, requests: 0, tunnel_seconds: 0, cents: 0 };
  const known = new Map(points.map((point) => [point.at, point]));
  const all = [];
  for (const at of steps(by, from, to)) all.push(known.get(at) ?? { at, ...none });
  return all;
}

/** Where the hours, days or months begin (UTC) between two moments. */
function* steps(by, from, to) {
  if (by === 'month') {
    const start = new Date(from * 1000);
    for (let month = start.getUTCMonth(); ; month += 1) {
      const at = Date.UTC(start.getUTCFullYear(), month, 1) / 1000;
      if (at > to) return;
      yield at;
    }
  }
  const step = STEP[by];
  for (let at = Math.floor(from / step) * step; at <= to; at += step) yield at;
}

const FORMS = {
  hour: { hour: '2-digit', minute: '2-digit' },
  day: { day: 'numeric', month: 'short', timeZone: 'UTC' },
  month: { month: 'short', year: 'numeric', timeZone: 'UTC' },
};

const when = (at, by) => new Date(at * 1000).toLocaleString(undefined, FORMS[by]);

function numbers(points, by) {
  return table('Use over time', [
    { label: 'From', cell: (point) => when(point.at, by) },
    { label: 'In', kind: 'number', cell: (point) => bytes(point.bytes_in) },
    { label: 'Out', kind: 'number', cell: (point) => bytes(point.bytes_out) },
    { label: 'Requests', kind: 'number', cell: (point) => count(point.requests) },
    { label: 'Tunnel time', kind: 'number', cell: (point) => span(point.tunnel_seconds) },
    { label: 'Cost', kind: 'number', cell: (point) => money(point.cents) },
  ], [...points].reverse());
}

function budgets(usage, projects, context) {
  const names = new Map(projects.map((project) => [project.id, project.name]));
  const title = `This month: ${money(usage.total_cents, usage.currency)}`;
  const keys = usage.keys ?? [];
  return section(title, { intro: `The month ${usage.month} by UTC. What a child spends counts for its parent too. Without a budget a key is counted and never stopped; a budget of nothing freezes it at once.` },
    keys.length === 0
      ? empty('No key has cost anything this month.', 'Set a budget before you hand a key out: on the page of the keys, with its button.')
      : table('Spend by key', [
        { label: 'Key', cell: (key) => [h('span', { class: 'strong' }, key.name || names.get(key.project) || 'key'), ' ', h('code', { class: 'faint' }, key.nonce)] },
        { label: 'Spent', kind: 'number', cell: (key) => money(key.cents) },
        { label: 'Budget', cell: (key) => allowance(key.shared_cents ?? key.cents, key.budget_cents, key.shared_cents !== undefined) },
        { label: '', kind: 'actions', cell: (key) => context.owner && button('Budget', { kind: 'quiet', focus: `budget ${key.nonce}`, onclick: () => setBudget(key, context), 'aria-label': `Budget of ${key.nonce}` }) },
      ], keys, { key: (key) => key.nonce }));
}

function allowance(spent, budget, shared) {
  if (budget === null || budget === undefined) return h('span', { class: 'faint' }, 'no limit');
  if (budget === 0) return mark('frozen', 'bad');
  const share = Math.min(1, spent / budget);
  return h('span', { class: 'allowance' },
    h('meter', { min: 0, max: 1, high: 0.8, low: 0.5, optimum: 0, value: share, 'aria-label': `${Math.round(share * 100)} % of the budget` }, `${Math.round(share * 100)} %`),
    shared ? `${money(spent)} with the account's other devices, of ${money(budget)}` : `of ${money(budget)}`, spent >= budget && mark('used up', 'bad'));
}

/** Asks for a key's budget and sets it. */
export function setBudget(key, context) {
  const budget = key.budget_cents;
  const kind = budget === null || budget === undefined ? 'none' : budget === 0 ? 'frozen' : 'limit';
  const choice = (value, label) => {
    const id = `budget-${value}`;
    return h('div', { class: 'check' }, h('input', { type: 'radio', name: 'kind', value, id, checked: value === kind, autofocus: value === kind }), h('label', { for: id }, label));
  };
  return form(`Budget of ${key.name || key.nonce}`, {
    fields: [
      h('fieldset', null, h('legend', null, 'What may it cost in a month?'),
        choice('none', 'No limit: it is counted, and never stopped'), choice('limit', 'So much, and then it stops:'),
        field('US dollars', { name: 'amount', inputmode: 'decimal', pattern: '[0-9]{1,8}([.][0-9]{1,2})?', value: budget ? (budget / 100).toFixed(2) : '', oninput: (event) => {
          event.target.form.elements.kind.value = 'limit';
        } }),
        choice('frozen', 'Nothing: it is frozen at once, and its tunnels end')),
    ],
    action: 'Set the budget',
    closed: context.reload,
    work: async ({ kind: chosen, amount }) => {
      const cents = { none: null, frozen: 0 }[chosen] ?? Math.round(Number(amount) * 100);
      if (chosen === 'limit' && !(cents > 0)) throw new RangeError('write how many dollars, such as 50 or 12.50');
      const answer = await optional(put(`/tokens/${key.nonce}/budget`, { monthlyBudgetUsdCents: cents }).then((given) => given ?? {}));
      if (answer === null) return h('p', null, 'This coordinator cannot set budgets yet: update mytunnel on the server.');
      return told(answer, cents === null ? 'The key has no limit.' : cents === 0 ? 'The key is frozen.' : `The key may cost ${money(cents)} a month.`);
    },
  });
}
