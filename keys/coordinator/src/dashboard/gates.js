// The gates of a tunnel: a password, or a sign-in with an allow-list. They hold at the relay, before the node.

import { get, optional, put, remove } from './api.js';
import { form, open } from './dialog.js';
import { h } from './dom.js';
import { told } from './revoke.js';
import { button, failure, field, mark, working } from './ui.js';

const OLD = 'This coordinator cannot set gates yet: update mytunnel on the server, or give --basic or --google to mytunnel share.';

/** A change of a gate, told relay by relay. */
async function change(promise, line) {
  const answer = await optional(promise.then((given) => given ?? {}));
  return answer === null ? h('p', null, OLD) : told(answer, line);
}

/** Sets or removes the password of a tunnel. */
export function basicGate(tunnel, context) {
  const set = tunnel.gates.includes('basic');
  const path = `/tunnels/${tunnel.id}/auth`;
  return form(`Password of ${tunnel.name}`, {
    intro: [
      h('p', null, 'Visitors are asked for a name and a password before anything reaches your machine.'),
      set && current('A password is set. A new one takes its place at once.', 'Remove the password', () => remove(path), context, `${tunnel.name} has no password any more.`),
    ],
    fields: [
      field('Name', { name: 'user', required: true, maxlength: 64, pattern: '[^:]+', autocomplete: 'off', autofocus: true }),
      field('Password', { name: 'password', type: 'password', required: true, minlength: 8, autocomplete: 'new-password' }, { help: 'At least 8 characters.' }),
    ],
    action: set ? 'Change the password' : 'Set the password',
    closed: context.reload,
    work: ({ user, password }) => change(put(path, { user, password }), `${tunnel.name} asks for the password.`),
  });
}

/** Sets or removes the sign-in of a tunnel. */
export async function signInGate(tunnel, context) {
  const path = `/tunnels/${tunnel.id}/edge-auth`;
  const [known, { providers }] = await Promise.all([
    tunnel.gates.includes('oidc') ? optional(get(`/tunnels/${tunnel.id}`)) : null,
    get('/auth/providers'),
  ]);
  const google = providers.some(({ id }) => id === 'google') ? [] : [['google', 'Google']];
  const gate = known?.edge_auth ?? { provider: 'google', allowed_domains: [], allowed_emails: [] };
  const set = Boolean(known?.edge_auth);
  return form(`Sign-in of ${tunnel.name}`, {
    intro: [
      h('p', null, 'Visitors sign in before anything reaches your machine. With both lists empty, whoever can sign in may enter.'),
      set && current('A sign-in is set. A change counts from the next request on.', 'Remove the sign-in', () => remove(path), context, `${tunnel.name} asks for no sign-in any more.`),
    ],
    fields: [
      field('With', { name: 'provider', value: gate.provider }, {
        options: [...providers.map(({ id, name }) => [id, name]), ...google], help: 'A relay that has no sign-in with it lets nobody in.',
      }),
      list('Domains', 'domains', gate.allowed_domains, 'example.com'),
      list('Addresses', 'emails', gate.allowed_emails, 'ann@example.com'),
    ],
    action: set ? 'Change the sign-in' : 'Set the sign-in',
    closed: context.reload,
    work: (values) => change(put(path, {
      provider: values.provider,
      allowed_domains: words(values.domains),
      allowed_emails: words(values.emails),
    }), `${tunnel.name} asks for a sign-in.`),
  });
}

function list(label, name, values, example) {
  return field(label, { name, value: values.join(', '), autocapitalize: 'off', spellcheck: 'false' }, { help: `With commas between, such as ${example}. At most 100.` });
}

const words = (text) => text.split(/[\s,]+/).map((word) => word.trim().replace(/^@/, '')).filter(Boolean);

/** What is set, and how to take it away. */
function current(text, label, take, context, line) {
  const off = button(label, {
    onclick: async (event) => {
      const dialog = event.currentTarget.closest('dialog');
      const place = open(label, { closed: context.reload });
      dialog.close();
      place.show(h('p', { role: 'status' }, 'Telling the relays…'));
      const end = h('div', { class: 'actions' }, button('Done', { kind: 'primary', onclick: place.close, autofocus: true }));
      try {
        place.show(h('div', { role: 'status' }, await working(off, () => change(take(), line))), end);
      } catch (error) {
        place.show(failure(error), end);
      }
    },
  });
  return h('div', { class: 'notice' }, h('p', null, mark('set', 'good'), ' ', text), off);
}
