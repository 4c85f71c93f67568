// More gates of a tunnel: a PIN, a token, addresses, and an end. All hold at the relay, before the node.

import { get, put, remove } from './api.js';
import { form, once, open } from './dialog.js';
import { h } from './dom.js';
import { told } from './revoke.js';
import { button, copyable, field, mark } from './ui.js';

const TIMES = [['3600', 'in an hour'], ['28800', 'in eight hours'], ['86400', 'in a day'], ['604800', 'in a week']];

/** What there is beside a password and a sign-in, and the way to each. */
export async function moreGates(tunnel, context) {
  const known = await get(`/tunnels/${tunnel.id}`);
  const dialog = open(`More gates of ${tunnel.name}`, { closed: context.reload });
  const line = (label, set, text, change) => h('div', { class: 'notice' },
    h('p', null, set ? mark('set', 'good') : mark('not set', 'quiet'), ' ', text),
    button(label, { onclick: () => { dialog.close(); change(known, context); } }));
  dialog.show(
    line('PIN', known.gates.includes('pin'), 'People type a PIN before they get in.', pinGate),
    line('Token', known.gates.includes('bearer'), 'Programs send a token, in place of what people are asked.', tokenGate),
    line('Addresses', known.ip !== null, 'Visitors come in by their network addresses.', addressGate),
    line('End', known.expires_at !== null, known.expires_at === null ? 'The tunnel has no end.' : `It ends at ${new Date(known.expires_at * 1000).toLocaleString()}.`, end),
    h('div', { class: 'actions' }, button('Done', { kind: 'primary', onclick: dialog.close })),
  );
}

function pinGate(tunnel, context) {
  return gate(tunnel, context, {
    title: `PIN of ${tunnel.name}`, path: 'gates/pin', set: tunnel.gates.includes('pin'), off: `${tunnel.name} asks for no PIN any more.`,
    intro: 'Whoever has typed it is not asked again for twelve hours. Another PIN ends these sessions.',
    fields: [field('PIN', { name: 'pin', inputmode: 'numeric', pattern: '[0-9]{6,12}', autofocus: true }, { help: '6 to 12 digits; leave it empty to have one made.' })],
    body: ({ pin }) => (pin ? { pin } : {}), on: `${tunnel.name} asks for a PIN.`, describe: 'PIN',
  });
}

function tokenGate(tunnel, context) {
  return gate(tunnel, context, {
    title: `Token of ${tunnel.name}`, path: 'gates/bearer', set: tunnel.gates.includes('bearer'), off: `${tunnel.name} lets no token in any more.`,
    intro: 'Programs send it as Authorization: Bearer TOKEN. A right one is let through in place of a password, a PIN or a sign-in.',
    fields: [field('Token', { name: 'token', minlength: 16, maxlength: 512, autofocus: true, spellcheck: 'false' }, { help: '16 characters or more; leave it empty to have one made.' })],
    body: ({ token }) => (token ? { token } : {}), on: `${tunnel.name} lets programs in by the token.`, describe: 'token',
  });
}

function addressGate(tunnel, context) {
  const list = (label, name, values, help) => field(label, { name, value: values.join(', '), autocapitalize: 'off', spellcheck: 'false' }, { help });
  const { allow, deny } = tunnel.ip ?? { allow: [], deny: [] };
  return gate(tunnel, context, {
    title: `Addresses of ${tunnel.name}`, path: 'gates/ip', set: tunnel.ip !== null, off: `${tunnel.name} lets visitors in from everywhere.`,
    intro: 'Who is kept out stays out also if let in. With nobody let in by name, everybody is who is not kept out.',
    fields: [list('Let in', 'allow', allow, 'Addresses or networks with commas between, such as 192.0.2.0/24.'), list('Keep out', 'deny', deny)],
    body: (values) => ({ allow: words(values.allow), deny: words(values.deny) }), on: `${tunnel.name} looks where visitors come from.`,
  });
}

function end(tunnel, context) {
  return gate(tunnel, context, {
    title: `End of ${tunnel.name}`, path: 'expires', set: tunnel.expires_at !== null, off: `${tunnel.name} has no end any more.`,
    intro: 'At its end it closes on every relay, and cannot be opened again before it has another end or none.',
    fields: [field('It ends', { name: 'after', value: TIMES[0][0] }, { options: TIMES })],
    body: ({ after }) => ({ expires_in: Number(after) }), on: `${tunnel.name} has an end.`,
  });
}

/** Sets one, or takes it away. */
function gate(tunnel, context, { title, path, set, intro, fields, body, on, off, describe }) {
  const at = `/tunnels/${tunnel.id}/${path}`;
  const take = button('Remove it', {
    onclick: (event) => {
      event.currentTarget.closest('dialog').close();
      form(`${title}: remove?`, { action: 'Remove', danger: true, closed: context.reload, work: async () => told(await remove(at), off) });
    },
  });
  return form(title, {
    intro: [h('p', null, intro), set && h('div', { class: 'notice' }, h('p', null, mark('set', 'good'), ' A change counts from the next request on.'), take)],
    fields,
    action: set ? 'Change' : 'Set',
    closed: context.reload,
    work: async (values) => {
      const answer = await put(at, body(values));
      const said = told(answer, on);
      if (!answer.secret) return said;
      const content = [h('div', { role: 'status' }, said), h('p', { class: 'strong' }, 'Save it now: it is shown once.'), copyable(answer.secret, { secret: true, describe })];
      queueMicrotask(() => once(title, content, context.reload));
      return undefined;
    },
  });
}

const words = (text) => text.split(/[\s,]+/).map((word) => word.trim()).filter(Boolean);
