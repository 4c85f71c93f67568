// The doors: sign-in with its second factor, the first owner, an invitation, a forgotten password.

import { optional, send } from './api.js';
import { h, replace } from './dom.js';
import { button, command, failure, field, working } from './ui.js';

/** A form outside any dialog. What `work` returns takes its place. */
function form(fields, action, work, more = []) {
  const trouble = h('div', { role: 'alert' });
  const submit = button(action, { kind: 'primary wide', type: 'submit' });
  const element = h('form', {
    onsubmit: async (event) => {
      event.preventDefault();
      if (submit.ariaDisabled) return;
      trouble.replaceChildren();
      try {
        const next = await working(submit, () => work(Object.fromEntries(new FormData(element))));
        if (next) {
          replace(element.parentElement, next);
        }
      } catch (error) {
        trouble.replaceChildren(failure(error));
        element.querySelector('[data-again]')?.select();
      }
    },
  }, fields, trouble, submit, more);
  return element;
}

const email = (value) => field('E-mail', { name: 'email', type: 'email', autocomplete: 'username', required: true, value, autofocus: true });
const password = (label, kind, help) => field(label, {
  name: 'password', type: 'password', autocomplete: kind, required: true, minlength: kind === 'new-password' ? 8 : undefined,
}, { help });
const NEW = 'At least 8 characters. Several words that nobody would guess are better than one with odd signs.';
const code = (label, value, help) => field(label, { name: 'code', required: true, value, autocapitalize: 'off', spellcheck: 'false', 'data-again': '' }, { help });

const link = (name, text) => h('a', { href: `#/${name}` }, text);

/** What follows an answer to a sign-in: in, or the second factor. */
async function enter(context, answer, address) {
  if (answer.mfa_required) {
    const next = secondFactor(context, answer.challenge_token, address);
    queueMicrotask(() => next.querySelector('input')?.focus());
    return next;
  }
  await context.signedIn(answer.access_token, address);
  return null;
}

function secondFactor(context, challenge, address) {
  const ask = (recovery) => form(
    [
      h('p', null, recovery
        ? 'Type one of your recovery codes. Each of them works once.'
        : 'Type the six digits that your authenticator app shows for this server.'),
      recovery
        ? code('Recovery code', '', 'It looks like abcd-1234.')
        : field('Code', { name: 'code', required: true, inputmode: 'numeric', autocomplete: 'one-time-code', maxlength: 9, 'data-again': '' }),
    ],
    'Go on',
    async (values) => {
      const typed = values.code.trim();
      const given = recovery ? typed : typed.replace(/\s/g, '');
      const answer = await send('POST', '/auth/login/mfa', { body: { challenge_token: challenge, code: given } });
      return enter(context, answer, address);
    },
    h('div', { class: 'links' },
      button(recovery ? 'Use the authenticator app' : 'Use a recovery code', { kind: 'link', onclick: () => turn(!recovery) }),
      button('Start again', { kind: 'link', onclick: () => context.go('login') })),
  );
  const place = h('div', { class: 'stack' });
  const turn = (recovery) => {
    place.replaceChildren(ask(recovery));
    place.querySelector('input').focus();
  };
  place.append(ask(false));
  return place;
}

/** What `draw` makes of each of the configured sign-ins, as soon as they are known. */
function ways(draw) {
  const place = h('div', { class: 'providers' });
  optional(send('GET', '/auth/providers')).then((answer) => {
    const list = answer?.providers ?? [];
    if (list.length > 0) place.append(h('p', { class: 'or' }, 'or'), ...list.map(draw));
  }).catch(() => {});
  return place;
}

/** Links to the configured sign-ins. */
export const providers = () => ways(({ id, name }) =>
  h('a', { class: 'button plain wide', href: `/api/v1/auth/oauth/${encodeURIComponent(id)}/start` }, `Sign in with ${name}`));

/** Buttons that prove at a provider once more who is signed in here. */
export const proofs = (work) => ways(({ id, name }) => button(`Prove it with ${name}`, { kind: 'plain wide', onclick: () => work(id) }));

/** What came of a sign-in at a provider, by the word in the address: whoever makes an address chooses no words here. */
export const TROUBLES = new Map([
  ['stale', 'This sign-in has ended, or was begun in another browser. Begin it again.'],
  ['declined', 'The provider says that you did not agree. Begin again, or sign in another way.'],
  ['unreachable', 'The provider does not answer. Try again in a minute, or sign in another way.'],
  ['answer', 'The provider\'s answer cannot be used. Try again; the server\'s log tells its operator why.'],
  ['domain', 'Accounts of this domain may not sign in here. Use your account of the company.'],
  ['unverified', 'The provider does not vouch for your e-mail address. Verify it there, or sign in another way.'],
  ['link_first', 'There is an account with your address. Sign in with its password, then connect this provider on the security page.'],
  ['no_account', 'Nobody has an account here with your address. Ask an owner to invite you.'],
  ['not_invited', 'This invitation was used, withdrawn or is too old. Ask for another.'],
  ['other_address', 'The invitation is for another address than the provider vouches for. Choose that account there, or open the invitation again and choose a password.'],
  ['taken', 'This identity is connected to another account here.'],
  ['full', 'This account has too many identities. Disconnect one first.'],
  ['other_account', 'That was another account than the one that is signed in here. Nothing was changed; choose the same account there.'],
  ['not_fresh', 'This provider does not say that you proved yourself there just now. Use your password, or sign in with a code of your authenticator.'],
  ['busy', 'Too many people are signing in. Try again in a minute.'],
  ['internal', 'The server failed; its log has the cause. Try again in a minute.'],
]);

const login = {
  title: 'Sign in',
  view(context) {
    const { challenge_token: challenge, error } = context.params;
    if (challenge) return secondFactor(context, challenge, '');
    const place = h('div', { class: 'stack' });
    place.append(
      error && h('div', { class: 'notice bad', role: 'alert' },
        h('p', { class: 'strong' }, 'That sign-in did not work.'),
        h('p', null, TROUBLES.get(error) ?? 'Try again, or sign in with your password.')) || '',
      form([email(), password('Password', 'current-password')], 'Sign in', async (values) => {
        const answer = await send('POST', '/auth/login', { body: { email: values.email, password: values.password } });
        return enter(context, answer, values.email);
      }),
      providers(),
      h('div', { class: 'links' }, link('forgot', 'Forgotten password'), link('invitation', 'I have an invitation')),
      unsafe() || '',
    );
    return place;
  },
};

/** A warning where what is typed can be read on its way. */
function unsafe() {
  if (isSecureContext) return null;
  return h('div', { class: 'notice warn' },
    h('p', { class: 'strong' }, 'This connection is not encrypted.'),
    h('p', null, 'Your password can be read on its way. Open this page by its https:// address, which the server prints when it starts.'));
}

const setup = {
  title: 'Become the owner',
  view(context) {
    return h('div', { class: 'stack' },
      h('p', null, `Nobody has signed in to ${context.server?.cluster ?? 'this server'} yet. Whoever has its setup code becomes the owner.`),
      form([
        code('Setup code', context.params.code ?? '', 'The server prints it at each start, as XXXX-XXXX-XXXX-XXXX; only the last one works.'),
        email(), password('New password', 'new-password', NEW),
      ], 'Become the owner', async (values) => enter(context, await send('POST', '/auth/setup', { body: values }), values.email)),
      !context.server?.lacks_owner && h('div', { class: 'links' }, link('login', 'There is an owner: sign in')));
  },
};

const invitation = {
  title: 'Accept an invitation',
  always: true,
  view(context) {
    const typed = code('Invitation code', context.params.code ?? '', 'It is in the link or the message that you got.');
    const join = async (provider) => {
      const asked = { code: typed.querySelector('input').value, provider };
      location.assign((await send('POST', '/auth/invitations/sign-in', { body: asked })).url);
    };
    return h('div', { class: 'stack' },
      h('p', null, 'An invitation makes an account for the address that it was made for.'),
      form([typed, password('New password', 'new-password', NEW)], 'Make my account',
        async (values) => enter(context, await send('POST', '/auth/invitations/accept', { body: values }), '')),
      ways(({ id, name }) => button(`Go on with ${name}`, { kind: 'plain wide', onclick: () => join(id) })),
      h('div', { class: 'links' }, link('login', 'I have an account')));
  },
};

const forgot = {
  title: 'Forgotten password',
  view(context) {
    const done = () => h('div', { class: 'stack', role: 'status' },
      h('p', null, 'If there is an account of that address, a message is on its way; it works for a short time only.'),
      h('p', null, 'Nothing came? Then this server sends no mail. Whoever runs it makes a link for you.'),
      h('div', { class: 'links' }, link('login', 'Back to the sign-in')));
    const place = h('div', { class: 'stack' },
      form([email()], 'Send a link', async (values) => {
        const answer = await optional(send('POST', '/auth/password/forgot', { body: values }).then(() => true));
        return answer ? done() : noReset();
      }),
      h('div', { class: 'links' }, link('login', 'Back to the sign-in')));
    return place;
  },
};

const noReset = () => h('div', { class: 'notice' },
  h('p', { class: 'strong' }, 'This coordinator cannot reset passwords yet.'),
  h('p', null, 'Update mytunnel on the server. Machines that are signed in go on working.'));

const reset = {
  title: 'Choose a new password',
  always: true,
  view(context) {
    return h('div', { class: 'stack' },
      form([
        context.params.token
          ? h('input', { type: 'hidden', name: 'token', value: context.params.token })
          : field('Reset code', { name: 'token', required: true, autofocus: true }),
        password('New password', 'new-password', NEW),
      ], 'Set the password', async (values) => {
        await send('POST', '/auth/password/reset', { body: values });
        return h('div', { class: 'stack', role: 'status' },
          h('p', null, 'Your password is changed, and every session has ended.'), h('div', { class: 'links' }, link('login', 'Sign in')));
      }),
      command('mytunnel login URL', 'Machines that you signed in stay signed in. To sign in another:'));
  },
};

export const doors = { login, setup, invitation, forgot, reset };
