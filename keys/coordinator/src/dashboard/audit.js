// The audit log, newest first, and the check of its chain.

import { get } from './api.js';
import { form, open } from './dialog.js';
import { h } from './dom.js';
import { count, moment, plural, time } from './format.js';
import { button, copyable, empty, facts, field, table } from './ui.js';

const PAGE = 50;

export const page = {
  title: 'Audit',
  topics: ['audit'],
  owners: true,
  load: async ({ params, state }) => {
    state.trail ??= [];
    const query = new URLSearchParams({ limit: String(PAGE + 1) });
    for (const name of ['project', 'key']) if (params.get(name)) query.set(name, params.get(name));
    const since = day(params.get('since'), 0);
    const until = day(params.get('until'), 86_399);
    if (since !== null) query.set('since', String(since));
    if (until !== null) query.set('until', String(until));
    if (state.trail.length > 0) query.set('before', String(state.trail.at(-1)));
    const [log, { projects }] = await Promise.all([get(`/audit?${query}`), get('/projects')]);
    return { entries: log.entries.slice(0, PAGE), more: log.entries.length > PAGE, head: log.head, projects };
  },
  view({ entries, more, head, projects }, context) {
    const { state } = context;
    return [
      h('div', { class: 'head' }, h('p', { class: 'intro' }, 'Every mint, use, refusal, revocation and sign-in. Rows are only ever added, and each is bound to all before it.'),
        button('Verify the log', { onclick: () => verify(head), focus: 'verify' })),
      filters(projects, context),
      entries.length === 0
        ? empty('No row fits.', 'Widen the time, or take a filter away.')
        : table('Audit log', [
          { label: 'When', cell: (row) => time(row.at) },
          { label: 'Who', cell: (row) => party(row.actor) },
          { label: 'What', cell: (row) => h('code', { class: /refused/.test(row.act) ? 'bad-text' : undefined }, row.act) },
          { label: 'On', cell: (row) => party(row.subject) },
          { label: 'Row', kind: 'number', cell: (row) => button(`#${row.seq}`, { kind: 'link', focus: `row ${row.seq}`, onclick: () => show(row, projects), 'aria-label': `Row ${row.seq} in full` }) },
        ], entries, { key: (row) => row.seq }),
      (state.trail.length > 0 || more) && h('nav', { class: 'pager', 'aria-label': 'Pages of the log' },
        state.trail.length > 0 && button('Newer', { focus: 'newer', onclick: () => turn(context, () => state.trail.pop()) }),
        more && button('Older', { focus: 'older', onclick: () => turn(context, () => state.trail.push(entries.at(-1).seq)) })),
    ];
  },
};

function turn(context, step) {
  step();
  return context.reload();
}

/** The first or the last second of a day in this device's zone. */
function day(text, seconds) {
  const at = Date.parse(`${text ?? ''}T00:00:00`);
  return Number.isFinite(at) ? at / 1000 + seconds : null;
}

/** `child:0011…` as a kind and a name. */
function party(text) {
  const at = text.indexOf(':');
  const [kind, name] = at < 0 ? ['', text] : [text.slice(0, at), text.slice(at + 1)];
  return [h('span', { class: 'faint' }, kind === 'user' ? 'device' : kind), ' ', h('span', { class: 'name' }, name)];
}

function filters(projects, context) {
  const { params } = context;
  const input = (label, name, attributes, more) => field(label, { name, value: params.get(name) ?? '', 'data-focus': `filter ${name}`, ...attributes }, more);
  const element = h('form', {
    class: 'filters',
    onsubmit: (event) => {
      event.preventDefault();
      const given = [...new FormData(element)].map(([name, value]) => [name, value.trim()]).filter(([, value]) => value);
      context.go(given.length > 0 ? `audit?${new URLSearchParams(given)}` : 'audit');
    },
  },
  input('Project', 'project', {}, { options: [['', 'All'], ...projects.map((project) => [project.id, project.name])] }),
  input('Key', 'key', { placeholder: '16 hex digits', pattern: '[0-9a-fA-F]{16}([0-9a-fA-F]{16})?', spellcheck: 'false' }),
  input('From', 'since', { type: 'date' }),
  input('To', 'until', { type: 'date' }),
  button('Show', { type: 'submit', focus: 'filter go' }),
  params.size > 0 && h('a', { class: 'button quiet', href: '#/audit' }, 'Clear'));
  return element;
}

function show(row, projects) {
  const dialog = open(`Row ${row.seq}`, { wide: true });
  dialog.show(
    facts([
      ['When', moment(row.at)], ['Who', row.actor], ['What', row.act], ['On', row.subject],
      row.project && ['Project', projects.find((project) => project.id === row.project)?.name ?? row.project],
      row.detail && ['Detail', row.detail], ['Hash', h('code', { class: 'long' }, row.hash)],
    ]),
    h('div', { class: 'actions' }, button('Close', { kind: 'primary', onclick: dialog.close, autofocus: true })));
}

function verify(head) {
  return form('Verify the log', {
    intro: [
      h('p', null, 'The coordinator follows the whole chain and says whether every row is what was once written.'),
      h('p', null, 'Relays are told the newest hash with every heartbeat, so that a log that was written anew does not match what they saw.'),
      h('p', null, 'This page saw:'), copyable(head, { describe: 'newest hash' }),
    ],
    action: 'Verify it now',
    wide: true,
    work: async () => verdict(await get('/audit/verify')),
  });
}

function verdict(found) {
  if (!found.ok) {
    return h('div', { class: 'notice bad' },
      h('p', { class: 'strong' }, `Row ${found.broken_at} is not what was once written there.`),
      h('p', null, `${count(found.entries)} rows before it are. Somebody has changed the database: keep a copy of it, and compare it with a backup (mytunnel audit --verify).`));
  }
  return h('div', { class: 'notice good' },
    h('p', { class: 'strong' }, `All of ${plural(found.entries, 'row')} hold.`),
    h('p', null, 'Newest hash: ', h('code', { class: 'long' }, found.head)));
}

