// Tunnels: what is reachable, by which address, and behind which gates.

import { get, optional, remove } from './api.js';
import { form } from './dialog.js';
import { h } from './dom.js';
import { basicGate, signInGate } from './gates.js';
import { moreGates } from './more-gates.js';
import { told } from './revoke.js';
import { button, command, empty, field, mark, table } from './ui.js';

const PAGE = 50;
const GATES = { basic: 'password', oidc: 'sign-in', pin: 'PIN', bearer: 'token', ip: 'addresses' };

export const page = {
  title: 'Tunnels',
  topics: ['tunnels', 'gates'],
  load: async ({ state }) => {
    const [listed, { projects }] = await Promise.all([batches(state.batches ?? 1), get('/projects')]);
    return { ...listed, projects };
  },
  view({ tunnels, next, projects }, context) {
    const { state } = context;
    if (tunnels.length === 0) return none(projects);
    const names = new Map(projects.map((project) => [project.id, project.name]));
    const wanted = (state.filter ?? '').trim().toLowerCase();
    const fits = (row) => !wanted || `${row.name} ${names.get(row.project) ?? row.project}`.toLowerCase().includes(wanted);
    const found = tunnels.filter(fits).sort((a, b) => b.online - a.online || a.name.localeCompare(b.name));
    const pages = Math.max(1, Math.ceil(found.length / PAGE));
    const at = Math.min(state.page ?? 0, pages - 1);
    return [
      h('div', { class: 'filters' }, field('Find', {
        type: 'search', value: state.filter ?? '', 'data-focus': 'find',
        oninput: (event) => Object.assign(state, { filter: event.target.value, page: 0 }) && context.redraw(),
      })),
      found.length === 0
        ? empty('No tunnel is called so.', 'Look for a part of its name, or of its project.')
        : table('Tunnels', columns(names, context), found.slice(at * PAGE, (at + 1) * PAGE), { key: (row) => row.id }),
      pages > 1 && h('nav', { class: 'pager', 'aria-label': 'Pages of tunnels' },
        button('Earlier', { focus: 'earlier', onclick: () => turn(context, at - 1, pages) }),
        h('span', null, `${at + 1} of ${pages}`),
        button('Later', { focus: 'later', onclick: () => turn(context, at + 1, pages) })),
      next && h('div', { class: 'actions start' }, h('p', { class: 'faint' }, `There are more than these ${tunnels.length}.`),
        button('Read more tunnels', { focus: 'more', onclick: () => more(context) })),
    ];
  },
};

/** As many answers of the coordinator as one list; `next` says that there are more. */
async function batches(amount) {
  const tunnels = [];
  let next;
  for (let batch = 0; batch < amount; batch += 1) {
    const answer = await get(next ? `/tunnels?after=${encodeURIComponent(next)}` : '/tunnels');
    tunnels.push(...answer.tunnels);
    next = answer.next;
    if (!next) break;
  }
  return { tunnels, next };
}

function more(context) {
  context.state.batches = (context.state.batches ?? 1) + 1;
  return context.reload();
}

function turn(context, to, pages) {
  context.state.page = Math.max(0, Math.min(pages - 1, to));
  context.redraw();
}

function none(projects) {
  return empty('Nothing was shared yet.', 'On a machine that is signed in, or where a key is set, share a port:',
    command('mytunnel http 3000 --subdomain preview'),
    projects.length === 0 && h('p', null, 'An agent needs a key of a project: ', h('a', { href: '#/projects' }, 'make one'), '.'));
}

function columns(names, context) {
  const change = context.owner;
  return [
    { label: 'Name', cell: (row) => address(row) },
    { label: 'Project', cell: (row) => names.get(row.project) ?? h('code', null, row.project) },
    { label: 'Kind', cell: (row) => row.kind },
    { label: 'State', cell: (row) => (row.online ? mark('up', 'good') : mark('away', 'quiet')) },
    { label: 'Gates', cell: (row) => (row.gates.length > 0 ? row.gates.map((gate) => mark(GATES[gate] ?? gate)) : h('span', { class: 'faint' }, row.kind === 'private' ? 'members only' : 'open to all')) },
    {
      label: '', kind: 'actions', cell: (row) => change && [
        row.kind === 'http' && button('Password', { kind: 'quiet', focus: `basic ${row.id}`, onclick: () => basicGate(row, context), 'aria-label': `Password gate of ${row.name}` }),
        row.kind === 'http' && button('Sign-in', { kind: 'quiet', focus: `oidc ${row.id}`, onclick: () => signInGate(row, context), 'aria-label': `Sign-in gate of ${row.name}` }),
        row.kind === 'http' && button('More', { kind: 'quiet', focus: `more ${row.id}`, onclick: () => moreGates(row, context), 'aria-label': `More gates of ${row.name}` }),
        button('Close', { kind: 'quiet danger-text', focus: `close ${row.id}`, onclick: () => close(row, context), 'aria-label': `Close ${row.name}` }),
      ],
    },
  ];
}

/** The address as a link, if it is one that a browser may follow. */
function address(row) {
  const web = row.url && /^https?:\/\//.test(row.url);
  const bare = web ? row.url.replace(/^https?:\/\//, '') : '';
  return web && row.kind === 'http'
    ? [h('span', { class: 'strong' }, row.name), h('a', { class: 'address', href: row.url, target: '_blank', rel: 'noopener noreferrer' }, bare)]
    : h('span', { class: 'strong' }, row.name);
}

function close(tunnel, context) {
  return form(`Close ${tunnel.name}?`, {
    intro: h('p', null, tunnel.online
      ? 'It ends now for all its visitors. Whoever holds a key of its project may open it again; to prevent that, revoke the key.'
      : 'Its name stays with its project. Whoever holds a key of the project may open it again.'),
    action: 'Close it',
    danger: true,
    closed: context.reload,
    work: async () => {
      const answer = await optional(remove(`/tunnels/${tunnel.id}`).then((given) => given ?? {}));
      if (answer === null) return h('p', null, 'This coordinator cannot close a tunnel yet: update mytunnel on the server, or revoke its key.');
      return told(answer, `Closed ${tunnel.name}.`);
    },
  });
}
