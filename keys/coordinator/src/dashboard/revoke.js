// Revoking: asked once, done with all that hangs on it, and told relay by relay.

import { remove } from './api.js';
import { form } from './dialog.js';
import { h } from './dom.js';
import { plural, short, time } from './format.js';
import { mark, say, table } from './ui.js';

const WORDS = { master: 'master key', child: 'child key', user: 'device' };

/** Asks, revokes a key with its children, and shows which relays act by it. */
export function revokeKey(key, { after }) {
  const what = WORDS[key.kind] ?? 'key';
  const called = key.name || key.nonce;
  const parent = key.kind !== 'child';
  const live = key.live_tunnels > 0
    ? `${plural(key.live_tunnels, 'tunnel')} of it ${key.live_tunnels === 1 ? 'is' : 'are'} up and will end now.`
    : 'It has no tunnel up at this moment.';
  return form(`Revoke the ${what} ${called}?`, {
    intro: [
      h('p', null, parent ? `It goes with every child key that it minted. ${live}` : live),
      key.kind === 'master' && h('p', null, 'Its project keeps its names, but nothing can mint for it with this key again. There is no way back.'),
      key.kind === 'user' && h('p', null, 'That machine has to sign in again. There is no way back.'),
    ],
    action: parent ? 'Revoke it and its children' : 'Revoke it',
    danger: true,
    closed: after,
    work: async () => told(await remove(`/tokens/${key.nonce}?cascade=true`)),
  });
}

/** What a change of rights came to. */
export function told(answer, first) {
  const { revoked_masters: masters = 0, revoked_children: children = 0 } = answer;
  const gone = [masters && plural(masters, 'key'), children && plural(children, 'child key')].filter(Boolean).join(' and ');
  const line = first ?? (gone ? `Revoked ${gone}.` : 'It was revoked before.');
  say(`${line} ${summary(answer.relays ?? [])}`);
  return [h('p', { class: 'strong' }, line), left(answer.masters_left ?? []), confirmed(answer.relays ?? [])];
}

/** Master keys that outlive whoever made them. */
function left(masters) {
  if (masters.length === 0) return null;
  return h('div', { class: 'notice warn' },
    h('p', null, `${plural(masters.length, 'master key')} made there still ${masters.length === 1 ? 'works' : 'work'}. Revoke on the page of keys what you do not know.`),
    h('ul', null, masters.map((key) => h('li', null, h('a', { href: `#/keys?project=${key.project}` }, key.name), ' ', h('code', { class: 'faint' }, key.nonce), ', made ', time(key.created_at)))));
}

/** How many relays act by a change, in words. */
export function summary(relays) {
  if (relays.length === 0) return 'No relay is connected, so that nothing had to be told.';
  const done = relays.filter((relay) => relay.applied);
  const slowest = Math.max(1, ...done.map((relay) => relay.ms ?? 0));
  const all = `${done.length} of ${plural(relays.length, 'relay')} confirmed`;
  return done.length > 0 ? `${all} within ${slowest} ms.` : `${all}.`;
}

/** The same with each relay. */
export function confirmed(relays) {
  const late = relays.some((relay) => !relay.applied);
  return h('div', { class: 'confirmed' },
    h('p', null, summary(relays)),
    late && h('p', { class: 'notice warn' }, 'A relay that did not confirm is cut off: it takes no new tunnels after a minute, and ends what it serves by itself.'),
    relays.length > 0 && table('Relays', [
      { label: 'Relay', cell: (relay) => h('code', { title: relay.id }, short(relay.id)) },
      { label: 'Acts by it', cell: (relay) => (relay.applied ? mark('confirmed', 'good') : mark('not heard', 'bad')) },
      { label: 'After', kind: 'number', cell: (relay) => (relay.applied ? `${relay.ms ?? 0} ms` : '–') },
    ], relays));
}
