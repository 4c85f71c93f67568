// The tree of keys: master keys and devices, the children that they minted, and what each of them does now.

import { get } from './api.js';
import { setBudget } from './usage.js';
import { h } from './dom.js';
import { money, now, plural, time } from './format.js';
import { revokeKey } from './revoke.js';
import { button, command, empty, field, mark, table } from './ui.js';

const PAGE = 25;
const CHILDREN = 20;

/** Is the key good at this moment? The clock is the coordinator's. */
const standing = (key) => key.revoked_at === null && (key.expires_at === null || key.expires_at > now());

export const page = {
  title: 'Keys',
  topics: ['keys', 'tunnels', 'usage'],
  load: async ({ params, state, owner }) => {
    state.open ??= new Map();
    const project = params.get('project') ?? '';
    const query = new URLSearchParams({ roots: 'true', limit: String(PAGE) });
    if (project) query.set('project', project);
    if (params.get('all')) query.set('all', 'true');
    const [{ projects }, roots, own] = await Promise.all([get('/projects'), pages(query, state.pages ?? 1), devices(owner)]);
    // What is open is read again too; at first, what serves tunnels.
    state.touched ??= roots.keys.filter((key) => key.live_tunnels > 0).slice(0, 5).map((key) => state.open.set(key.nonce, 1));
    const wanted = roots.keys.filter((key) => state.open.has(key.nonce));
    const families = await Promise.all(wanted.map(async (key) => [key.nonce, await children(key, state, params.get('all'))]));
    return { projects, ...roots, families: Object.fromEntries(families), own };
  },
  view({ projects, keys, next, families, own }, context) {
    // Owners revoke any key, members their own devices and what those minted.
    context.state.revocable = (key) => own === null || own.includes(key.nonce) || own.includes(key.parent);
    const names = new Map(projects.map((project) => [project.id, project.name]));
    return [
      filters(projects, context),
      keys.length === 0 && (projects.length === 0
        ? empty('There is no key yet.', 'A project brings the first one, its master key.', h('p', null, h('a', { href: '#/projects' }, 'Make a project')), command(`mytunnel login '${context.server.url}'`, 'Or sign a machine in, which then is a device:'))
        : empty('No key of that project stands.', 'Show ended keys to see what there was.')),
      h('ul', { class: 'tree' }, keys.map((key) => root(key, families[key.nonce], names, context))),
      next && button('More keys', { focus: 'more', onclick: () => more(context) }),
    ];
  },
};

function filters(projects, context) {
  const { params } = context;
  const choose = (changes) => {
    const query = new URLSearchParams(params);
    for (const [name, value] of Object.entries(changes)) {
      if (value) query.set(name, value);
      else query.delete(name);
    }
    context.go(query.size > 0 ? `keys?${query}` : 'keys');
  };
  return h('div', { class: 'filters' },
    field('Project', { value: params.get('project') ?? '', 'data-focus': 'project', onchange: (event) => choose({ project: event.target.value }) },
      { options: [['', 'All projects'], ...projects.map((project) => [project.id, project.name])] }),
    field('Ended keys', { value: params.get('all') ?? '', 'data-focus': 'ended', onchange: (event) => choose({ all: event.target.value }) },
      { options: [['', 'Last day'], ['1', 'All']] }));
}

/** A member's own devices; null for owners. */
async function devices(owner) {
  return owner ? null : (await get('/devices')).devices.map((device) => device.nonce);
}

/** Several pages as one list. */
async function pages(query, amount) {
  const keys = [];
  let next;
  for (let page = 0; page < amount; page += 1) {
    const answer = await get(`/tokens?${query}`);
    keys.push(...answer.keys);
    next = answer.next;
    if (!next) break;
    query.set('after', next);
  }
  return { keys, next };
}

async function children(key, state, all) {
  const query = new URLSearchParams({ parent: key.nonce, limit: String(CHILDREN) });
  if (all) query.set('all', 'true');
  return pages(query, state.open.get(key.nonce));
}

function more(context) {
  context.state.pages = (context.state.pages ?? 1) + 1;
  return context.reload();
}

function root(key, family, names, context) {
  const { open } = context.state;
  const isOpen = open.has(key.nonce);
  const called = key.kind === 'master' ? (names.get(key.project) ?? (key.name || key.project)) : (key.name || 'device');
  const toggle = async () => {
    if (isOpen) open.delete(key.nonce);
    else open.set(key.nonce, 1);
    context.redraw();
    if (!isOpen) await context.reload();
  };
  const id = `family-${key.nonce}`;
  const whose = { ...key, name: called };
  return h('li', { class: standing(key) ? 'root' : 'root over', 'data-key': key.nonce },
    h('div', { class: 'root-head' }, h('div', { class: 'root-name' },
      h('button', { type: 'button', class: 'disclose', 'aria-expanded': String(isOpen), 'aria-controls': id, 'data-focus': `open ${key.nonce}`, onclick: toggle },
        h('span', { class: 'twist', 'aria-hidden': 'true' }), h('span', { class: 'strong' }, called), h('span', { class: 'kind' }, key.kind === 'user' ? 'device' : key.kind)),
      h('code', { class: 'faint' }, key.nonce), key.made_by && h('span', { class: 'faint name' }, maker(key.made_by))),
      h('div', { class: 'root-facts' }, ...state(key), live(key), spend(key)),
      h('div', { class: 'actions' }, actions(whose, context))),
    h('div', { id, class: 'family', hidden: !isOpen }, isOpen && below(key, family, context)));
}

/** Who made a master key, and where. */
function maker({ account, device }) {
  return `made by ${account ?? 'somebody who is gone'}${device ? ` on the device ${device}` : ' in a browser'}`;
}

function actions(key, context) {
  if (!standing(key)) return null;
  return [
    context.owner && button('Budget', { kind: 'quiet', focus: `budget ${key.nonce}`, onclick: () => setBudget(key, context), 'aria-label': `Budget of ${key.name || key.nonce}` }),
    context.state.revocable(key) && button('Revoke', { kind: 'quiet danger-text', focus: `revoke ${key.nonce}`, onclick: () => revokeKey(key, { after: context.reload }), 'aria-label': `Revoke ${key.name || key.nonce}` }),
  ];
}

function state(key) {
  if (key.revoked_at !== null) return [mark('revoked', 'bad'), time(key.revoked_at)];
  if (key.expires_at === null) return [mark('no end', 'quiet')];
  return [time(key.expires_at, 'until')];
}

function live(key) {
  return key.live_tunnels > 0 ? mark(`${plural(key.live_tunnels, 'tunnel')} up`, 'good') : mark('idle', 'quiet');
}

function spend(key) {
  const spent = money(key.spent_cents);
  if (key.budget_cents === null) return h('span', { class: 'spend' }, spent);
  if (key.budget_cents === 0) return mark('frozen', 'bad');
  // A member's devices have one budget together.
  const gone = key.shared_spent_cents ?? key.spent_cents;
  const all = key.shared_spent_cents === undefined ? spent : `${spent}, all devices ${money(gone)}`;
  return h('span', { class: gone >= key.budget_cents ? 'spend bad-text' : 'spend' }, `${all} of ${money(key.budget_cents)}`);
}

function below(key, family, context) {
  if (!family) return h('p', { class: 'faint' }, 'Reading…');
  if (family.keys.length === 0) {
    const mint = key.kind === 'master'
      ? command(`eval "$(mytunnel eval mint --project ${key.project} --ttl 1h --output-env)"`, 'No child of it stands. Where MTK_MASTER is set, this mints one:')
      : command('mytunnel keys create --ttl 1h', 'No child of it stands. On that machine, this mints one:');
    return mint;
  }
  return [
    table('Children', [
      { label: 'Key', cell: (child) => h('code', null, child.nonce) },
      { label: 'May', cell: (child) => [child.scopes, child.hosts.length > 0 && h('span', { class: 'faint' }, ` as ${child.hosts.join(', ')}`)] },
      { label: 'Stands', cell: state },
      { label: 'Tunnels', cell: live },
      { label: 'Spent', kind: 'number', cell: spend },
      { label: '', kind: 'actions', cell: (child) => actions(child, context) },
    ], family.keys, { key: (child) => child.nonce }),
    family.next && button('More children', { focus: `children ${key.nonce}`, onclick: () => {
      context.state.open.set(key.nonce, context.state.open.get(key.nonce) + 1);
      return context.reload();
    } }),
  ];
}
