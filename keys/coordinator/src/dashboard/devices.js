// Machines that are signed in, and the sessions of browsers.

import { get, optional, remove } from './api.js';
import { form } from './dialog.js';
import { h } from './dom.js';
import { plural, time } from './format.js';
import { revokeKey } from './revoke.js';
import { button, command, empty, mark, missing, say, section, table } from './ui.js';

export const page = {
  title: 'Devices and sessions',
  topics: ['accounts', 'keys', 'tunnels'],
  load: async () => {
    const [devices, sessions] = await Promise.all([optional(get('/devices')), optional(get('/sessions'))]);
    return { devices: devices?.devices ?? await signedIn(), sessions: sessions?.sessions ?? null };
  },
  view({ devices, sessions }, context) {
    const login = command(`mytunnel login '${context.server.url}'`, 'To sign another machine in, run there:');
    return [
      section('Devices', { intro: 'A device is a machine with a key of its own, made there. A lost one is revoked alone, with all that it minted.' },
        devices.length === 0 ? empty('No machine is signed in.', null, login) : [machines(devices, context), login]),
      section('Sessions', { intro: 'Where this dashboard, or a script with a password, is signed in.' },
        sessions === null ? missing('the list of sessions') : browsers(sessions, context)),
    ];
  },
};

/** Without a list of devices: the keys that are devices. */
async function signedIn() {
  const { keys } = await get('/tokens?roots=true&limit=1000');
  return keys.filter((key) => key.kind === 'user' && key.revoked_at === null);
}

function machines(devices, context) {
  return table('Devices', [
    { label: 'Name', cell: (row) => [h('span', { class: 'strong' }, row.name || 'unnamed'), ' ', h('code', { class: 'faint' }, row.nonce)] },
    devices.some((row) => row.account) && { label: 'Of', cell: (row) => row.account },
    { label: 'Since', cell: (row) => time(row.created_at) },
    { label: 'Signed in for', cell: (row) => time(row.expires_at, 'until') },
    { label: 'Tunnels', cell: (row) => (row.live_tunnels > 0 ? mark(`${plural(row.live_tunnels, 'tunnel')} up`, 'good') : mark('idle', 'quiet')) },
    { label: '', kind: 'actions', cell: (row) => button('Revoke', { kind: 'quiet danger-text', focus: `revoke ${row.nonce}`, onclick: () => revokeKey({ ...row, kind: 'user' }, { after: context.reload }), 'aria-label': `Revoke ${row.name || row.nonce}` }) },
  ].filter(Boolean), devices, { key: (row) => row.nonce });
}

function browsers(sessions, context) {
  const others = sessions.filter((row) => !row.current);
  return [
    table('Sessions', [
      { label: 'With', cell: (row) => [program(row.agent), row.current && [' ', mark('this one', 'good')]] },
      { label: 'From', cell: (row) => h('span', { class: 'name' }, row.address ?? 'unknown') },
      { label: 'Signed in', cell: (row) => time(row.created_at) },
      { label: 'Used', cell: (row) => time(row.last_used_at) },
      { label: '', kind: 'actions', cell: (row) => !row.current && button('End', { kind: 'quiet danger-text', focus: `end ${row.id}`, onclick: () => end([row], context), 'aria-label': `End the session from ${row.address ?? 'unknown'}` }) },
    ], sessions, { key: (row) => row.id }),
    others.length > 1 && button('End all others', { focus: 'end others', onclick: () => endAll(others, context) }),
  ];
}

async function end(rows, context) {
  for (const row of rows) await remove(`/sessions/${encodeURIComponent(row.id)}`);
  say(`${plural(rows.length, 'session')} ended.`);
  await context.reload();
}

function endAll(rows, context) {
  return form('End all other sessions?', {
    intro: h('p', null, `${plural(rows.length, 'session')} will have to sign in again. Devices stay signed in.`),
    action: 'End them', danger: true, work: () => end(rows, context).then(() => undefined),
  });
}

/** What sort of program it is, from how it calls itself. */
export function program(agent) {
  if (!agent) return 'unknown program';
  const kinds = [['Edg/', 'Edge'], ['OPR/', 'Opera'], ['Firefox/', 'Firefox'], ['Chrome/', 'Chrome'], ['Safari/', 'Safari'], ['mytunnel', 'mytunnel']];
  const systems = [['Android', 'Android'], ['iPhone', 'iPhone'], ['iPad', 'iPad'], ['Windows', 'Windows'], ['Mac OS', 'macOS'], ['Linux', 'Linux']];
  const find = (list) => list.find(([sign]) => agent.includes(sign))?.[1];
  const [kind, system] = [find(kinds), find(systems)];
  if (!kind) return h('span', { class: 'name' }, agent.slice(0, 40));
  return system ? `${kind} on ${system}` : kind;
}
