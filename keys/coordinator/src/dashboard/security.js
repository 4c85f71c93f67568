// One's own second factor, recovery codes, identities at other providers and password.

import { get, optional, post, remove, renew, Trouble } from './api.js';
import { form, once } from './dialog.js';
import { h } from './dom.js';
import { plural, time } from './format.js';
import { again } from './again.js';
import { TROUBLES } from './sign-in.js';
import { button, copyable, facts, field, mark, say, section, table } from './ui.js';

export const page = {
  title: 'Security',
  topics: ['accounts'],
  load: async (context) => {
    await context.whoami();
    const [own, known] = await Promise.all([optional(get('/auth/identities')), optional(get('/auth/providers'))]);
    return { me: context.me, identities: own?.identities ?? [], providers: known?.providers ?? [] };
  },
  view({ me, identities, providers }, context) {
    return [outcome(context.params, providers), secondFactor(me, context), signIns(identities, providers, context), password(context)];
  },
};

const digits = (label = 'Code', more = {}) => field(label, {
  name: 'code', required: true, inputmode: 'numeric', autocomplete: 'one-time-code', maxlength: 9, ...more,
}, { help: 'The six digits that your authenticator app shows now.' });

const clean = (code) => code.replace(/\s/g, '');

/** What is not there yet is said in words. */
async function needs(promise) {
  const answer = await optional(promise.then((given) => given ?? {}));
  if (answer === null) throw new Trouble(404, { code: 'not_found', message: 'This coordinator does not offer this yet.', help: 'Update mytunnel on the server.' });
  return answer;
}

function secondFactor(me, context) {
  if (!me.mfa_enabled) {
    return section('Second factor', {
      intro: 'With a second factor, whoever has your password still cannot sign in. Any authenticator app will do.',
    }, h('p', null, mark('off', 'quiet')), button('Set it up', { kind: 'primary', focus: 'enrol', onclick: () => enrol(context) }));
  }
  const left = me.recovery_codes_left;
  return section('Second factor', {},
    facts([['State', mark('on', 'good')], ['Recovery codes', left === undefined ? 'made' : [plural(left, 'code'), ' left', left < 3 && [' ', mark('make new ones', 'bad')]]]]),
    h('div', { class: 'actions start' },
      button('New recovery codes', { focus: 'codes', onclick: () => renewCodes(context) }),
      button('Turn it off', { kind: 'quiet danger-text', focus: 'mfa off', onclick: () => disable(context) })));
}

async function enrol(context) {
  const { secret_base32: secret, qr_svg: picture } = await again(context, () => needs(post('/auth/mfa/enroll')));
  return form('Set up the second factor', {
    intro: [
      h('ol', { class: 'steps' },
        h('li', null, 'Scan this with your authenticator app:', h('img', { class: 'qr', alt: 'The secret for your authenticator app', width: 210, height: 210, src: `data:image/svg+xml,${encodeURIComponent(picture)}` }),
          h('details', null, h('summary', null, 'I cannot scan it'), h('p', null, 'Type this secret into the app (time based, six digits):'), copyable(grouped(secret), { describe: 'secret', secret: true }))),
        h('li', null, 'Type what it shows, to prove that it works. Nothing changes before that.')),
    ],
    fields: [digits('Code', { autofocus: true })],
    action: 'Turn it on',
    wide: true,
    work: async ({ code }) => {
      const proof = { secret_base32: secret, code: clean(code) };
      const { recovery_codes: codes } = await again(context, () => needs(post('/auth/mfa/enroll/verify', proof, { once: true })));
      queueMicrotask(() => showCodes(codes, 'The second factor is on', context));
    },
  });
}

const grouped = (secret) => secret.match(/.{1,4}/g).join(' ');

function showCodes(codes, title, context) {
  const text = codes.join('\n');
  const file = URL.createObjectURL(new Blob([`Recovery codes of ${context.me.email} at ${location.host}\nEach works once.\n\n${text}\n`], { type: 'text/plain' }));
  once(title, [
    h('p', { class: 'strong' }, 'Save your recovery codes: they are shown once.'),
    h('p', null, 'When your authenticator app is lost, each of them signs you in once. Keep them where you keep your passwords, not on the same phone.'),
    h('ul', { class: 'codes', 'aria-label': 'Recovery codes' }, codes.map((code) => h('li', null, h('code', null, code)))),
    h('div', { class: 'actions start' },
      button('Copy', { onclick: () => navigator.clipboard.writeText(text).then(() => say('Copied.')) }),
      h('a', { class: 'button plain', href: file, download: 'mytunnel-recovery-codes.txt' }, 'Download')),
  ], () => {
    URL.revokeObjectURL(file);
    context.reload();
  });
}

function renewCodes(context) {
  return form('New recovery codes', {
    intro: h('p', null, 'The codes that you have now stop working.'),
    fields: [digits('Code', { autofocus: true })],
    action: 'Make new codes',
    work: async ({ code }) => {
      const { recovery_codes: codes } = await needs(post('/auth/mfa/recovery-codes', { code: clean(code) }, { once: true }));
      queueMicrotask(() => showCodes(codes, 'New recovery codes', context));
    },
  });
}

function disable(context) {
  return form('Turn the second factor off?', {
    intro: h('p', null, 'Your password alone will be enough to sign in.'),
    fields: [field('Code', { name: 'code', required: true, autocomplete: 'one-time-code', autofocus: true }, { help: 'Six digits of your authenticator app, or a recovery code.' })],
    action: 'Turn it off',
    danger: true,
    closed: context.reload,
    work: async ({ code }) => {
      await needs(post('/auth/mfa/disable', { code: clean(code) }, { once: true }));
      say('The second factor is off.');
    },
  });
}

/** What came of connecting an identity, by the words in the address. */
function outcome(params, providers) {
  const [linked, error] = [params.get('linked'), params.get('error')];
  const name = providers.find(({ id }) => id === linked)?.name;
  if (name) return h('div', { class: 'notice', role: 'status' }, h('p', null, `${name} is connected: you can sign in with it from now on.`));
  if (!error) return null;
  return h('div', { class: 'notice bad', role: 'alert' },
    h('p', { class: 'strong' }, 'Nothing was connected.'),
    h('p', null, TROUBLES.get(error) ?? 'Try again.'));
}

function signIns(identities, providers, context) {
  if (identities.length === 0 && providers.length === 0) return null;
  return section('Other sign-ins', { intro: 'Whoever you are there may sign in here as you. The second factor stays due.' },
    identities.length > 0 && table('Connected', [
      { label: 'At', cell: (row) => h('span', { class: 'strong' }, row.name ?? row.provider) },
      { label: 'As', cell: (row) => h('span', { class: 'name' }, row.email ?? 'no address shown') },
      { label: 'Connected', cell: (row) => time(row.linked_at) },
      { label: 'Used', cell: (row) => time(row.last_used_at) },
      { label: '', kind: 'actions', cell: (row) => button('Disconnect', { kind: 'quiet danger-text', focus: `disconnect ${row.id}`, onclick: () => disconnect(row, context), 'aria-label': `Disconnect ${row.name ?? row.provider}` }) },
    ], identities, { key: (row) => row.id }),
    providers.length > 0 && h('div', { class: 'actions start' }, providers.map(({ id, name }) =>
      button(`Connect ${name}`, { focus: `connect ${id}`, onclick: () => connect(id, context) }))));
}

async function connect(provider, context) {
  const { url } = await again(context, () => post('/auth/identities', { provider }));
  location.assign(url);
}

function disconnect(identity, context) {
  const name = identity.name ?? identity.provider;
  return form(`Disconnect ${name}?`, {
    intro: h('p', null, 'It does not sign you in any more. Sessions and devices stay.'),
    action: 'Disconnect it',
    danger: true,
    closed: context.reload,
    work: async () => {
      await again(context, () => remove(`/auth/identities/${encodeURIComponent(identity.id)}`));
      say(`${name} is disconnected.`);
    },
  });
}

function password(context) {
  return section('Password', { intro: 'Changing it ends your other sessions. Devices stay signed in; revoke them on their own page.' },
    button('Change the password', { focus: 'password', onclick: () => form('Change the password', {
      fields: [
        h('input', { type: 'hidden', name: 'email', autocomplete: 'username', value: context.me.email }),
        field('Password now', { name: 'current', type: 'password', required: true, autocomplete: 'current-password', autofocus: true }),
        field('New password', { name: 'new', type: 'password', required: true, minlength: 8, autocomplete: 'new-password' }, { help: 'At least 8 characters.' }),
      ],
      action: 'Change it',
      work: async (values) => {
        // Renewed before and not after: a wrong password must not be tried twice.
        await renew();
        await needs(post('/auth/password', { current: values.current, new: values.new }, { once: true }));
        say('The password is changed.');
      },
    }) }));
}
