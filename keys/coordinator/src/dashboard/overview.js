// What matters now: what is up, what was done last, and the first steps where nothing is there yet.

import { get, optional } from './api.js';
import { h } from './dom.js';
import { count, money, now, plural, short, time } from './format.js';
import { command, mark, section, table } from './ui.js';

export const page = {
  title: 'Overview',
  topics: ['keys', 'tunnels', 'audit', 'usage'],
  load: async ({ owner }) => {
    const [{ projects }, { tunnels }, { relays }, { keys }, usage, log] = await Promise.all([
      get('/projects'), get('/tunnels'), optional(get('/relays')).catch(() => null).then((answer) => answer ?? { relays: null }),
      get('/tokens?roots=true&limit=1000'),
      optional(get('/usage?by=month')),
      owner ? get('/audit?limit=6') : { entries: [] },
    ]);
    return {
      projects, relays, cost: usage && { cents: usage.total_cents, currency: usage.currency }, entries: log.entries,
      tunnels: tunnels.length, up: tunnels.filter((tunnel) => tunnel.online).length,
      masters: keys.filter((key) => key.kind === 'master' && key.revoked_at === null).length,
      devices: keys.filter((key) => key.kind === 'user' && key.revoked_at === null && key.expires_at > now()).length,
    };
  },
  view(data, context) {
    const connected = data.relays?.filter((relay) => relay.connected).length;
    return [
      h('ul', { class: 'figures' },
        figure('tunnels', count(data.up), data.up === 1 ? 'tunnel up' : 'tunnels up', data.tunnels === 0 ? 'none was shared yet' : `of ${plural(data.tunnels, 'known name')}`),
        figure('keys', count(data.masters), data.masters === 1 ? 'master key' : 'master keys', plural(data.devices, 'device')),
        data.cost && figure('usage', money(data.cost.cents, data.cost.currency), 'this month', 'of all keys'),
        data.relays && figure(null, `${connected} of ${data.relays.length}`, 'relays follow', connected === data.relays.length ? 'all act by every change' : 'the others are cut off')),
      (data.tunnels === 0 || data.masters === 0) && firstSteps(data, context),
      data.entries.length > 0 && section('Last acts', { actions: h('a', { href: '#/audit' }, 'All of them') }, table('Last acts', [
        { label: 'When', cell: (row) => time(row.at) },
        { label: 'Who', cell: (row) => h('span', { class: 'name' }, named(row.actor)) },
        { label: 'What', cell: (row) => h('code', { class: /refused/.test(row.act) ? 'bad-text' : undefined }, row.act) },
        { label: 'On', cell: (row) => h('span', { class: 'name' }, named(row.subject)) },
      ], data.entries, { key: (row) => row.seq })),
      data.relays?.length > 0 && section('Relays', {}, table('Relays', [
        { label: 'Relay', cell: (row) => h('code', { title: row.id }, short(row.id)) },
        { label: 'State', cell: (row) => (row.connected ? mark('follows', 'good') : mark('not heard', 'bad')) },
        { label: 'Address', cell: (row) => h('span', { class: 'name' }, row.addrs[0] ?? '–') },
      ], data.relays, { key: (row) => row.id })),
    ];
  },
};

/** `child:0011…` as people say it. */
const named = (text) => text.replace(/^user:/, 'device ').replace(/^(account|system):/, '').replace(':', ' ');

function figure(to, amount, what, more) {
  const content = [h('span', { class: 'amount' }, amount), h('span', { class: 'what' }, what), h('span', { class: 'faint' }, more)];
  return h('li', null, to ? h('a', { href: `#/${to}` }, content) : h('div', null, content));
}

function firstSteps(data, context) {
  const named = data.projects[0];
  return section('First steps', {}, h('ol', { class: 'steps' },
    h('li', { class: data.devices > 0 ? 'done' : '' }, command(`mytunnel login '${context.server.url}'`, 'Sign a machine in:')),
    h('li', { class: data.masters > 0 ? 'done' : '' }, 'Make a ', h('a', { href: '#/projects' }, 'project'), ': its master key mints short-lived keys for agents and scripts.'),
    h('li', null, command(`eval "$(mytunnel eval mint --project ${named?.id ?? 'proj_…'} --ttl 1h --output-env)"`, 'Where the master key is in MTK_MASTER, mint a key for an hour:')),
    h('li', { class: data.tunnels > 0 ? 'done' : '' }, command('mytunnel http 3000 --subdomain preview', 'Share a port:'))));
}
