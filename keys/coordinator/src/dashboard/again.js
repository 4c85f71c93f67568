// Acts that want a fresh sign-in: whoever finds an open window must not get past them.

import { get, optional, post, remove, send, signIn, Trouble } from './api.js';
import { open } from './dialog.js';
import { h } from './dom.js';
import { proofs } from './sign-in.js';
import { button, failure, field, working } from './ui.js';

/** Does the work; where it wants a fresh sign-in, asks for one and does it then. */
export async function again(context, work) {
  try {
    return await work();
  } catch (trouble) {
    if (!(trouble instanceof Trouble) || trouble.code !== 'step_up_required') throw trouble;
    await proven(context.me.email);
    return work();
  }
}

/** Asks for the password, and for the second factor where there is one. */
function proven(email) {
  return new Promise((resolve, reject) => {
    let done = false;
    const dialog = open('Is it you?', { closed: () => done || reject(new Trouble(401, {
      code: 'step_up_required', message: 'Nothing was changed.', help: 'It needs a fresh sign-in.',
    })) });
    const finish = async (answer) => {
      const old = await optional(get('/sessions')).catch(() => null);
      signIn(answer.access_token);
      // The new session takes the place of the one that this window had.
      const before = old?.sessions?.find((session) => session.current);
      if (before) await remove(`/sessions/${encodeURIComponent(before.id)}`).catch(() => {});
      done = true;
      dialog.close();
      resolve();
    };
    dialog.show(password(email, dialog, finish));
  });
}

function password(email, dialog, finish) {
  return ask(dialog, [
    h('p', null, 'You signed in a while ago. For this, prove once more that it is you.'),
    h('input', { type: 'hidden', name: 'email', autocomplete: 'username', value: email }),
    field('Password', { name: 'password', type: 'password', required: true, autocomplete: 'current-password', autofocus: true }, {
      help: 'You sign in by another provider? Prove it there, and come back to this within ten minutes.',
    }),
  ], async (values) => {
    const answer = await send('POST', '/auth/login', { body: { email, password: values.password } });
    if (answer.mfa_required) dialog.show(code(answer.challenge_token, dialog, finish));
    else await finish(answer);
  }, (attempt) => proofs((provider) => attempt(async () => {
    const { url } = await post('/auth/again', { provider });
    location.assign(url);
  })));
}

function code(challenge, dialog, finish) {
  return ask(dialog, [
    field('Code', { name: 'code', required: true, autocomplete: 'one-time-code', autofocus: true }, { help: 'Six digits of your authenticator app, or a recovery code.' }),
  ], async (values) => finish(await send('POST', '/auth/login/mfa', { body: { challenge_token: challenge, code: values.code.trim() } })));
}

function ask(dialog, fields, work, more = () => []) {
  const trouble = h('div', { role: 'alert' });
  const submit = button('Go on', { kind: 'primary', type: 'submit' });
  const attempt = async (act) => {
    trouble.replaceChildren();
    try {
      await working(submit, act);
    } catch (problem) {
      trouble.replaceChildren(failure(problem));
    }
  };
  const element = h('form', {
    onsubmit: (event) => {
      event.preventDefault();
      if (submit.ariaDisabled) return undefined;
      return attempt(() => work(Object.fromEntries(new FormData(element))));
    },
  }, fields, trouble, h('div', { class: 'actions' }, button('Cancel', { onclick: dialog.close }), submit), more(attempt));
  return element;
}
