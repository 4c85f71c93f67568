// Accounts and invitations, for owners.

import { again } from './again.js';
import { get, optional, patch, post, remove } from './api.js';
import { form, once } from './dialog.js';
import { h } from './dom.js';
import { time } from './format.js';
import { button, copyable, empty, field, mark, missing, say, section, table } from './ui.js';

const ROLES = [['member', 'Member: sees everything, and manages what is their own'], ['owner', 'Owner: may do everything']];

export const page = {
  title: 'People',
  topics: ['accounts'],
  owners: true,
  load: async () => {
    const [accounts, invitations] = await Promise.all([optional(get('/accounts')), optional(get('/invitations'))]);
    return { accounts: accounts?.accounts ?? null, invitations: invitations?.invitations ?? null };
  },
  view({ accounts, invitations }, context) {
    if (!accounts) return missing('accounts for several people');
    return [
      section('Accounts', { actions: button('Invite somebody', { kind: 'primary', focus: 'invite', onclick: () => invite(context) }) },
        table('Accounts', [
          { label: 'E-mail', cell: (row) => [h('span', { class: 'strong name' }, row.email), row.id === context.me.id && [' ', mark('you', 'quiet')]] },
          { label: 'Role', cell: (row) => row.role },
          { label: 'Second factor', cell: (row) => (row.mfa_enabled ? mark('on', 'good') : mark('off', 'quiet')) },
          { label: 'Last sign-in', cell: (row) => time(row.last_login_at) },
          {
            label: '', kind: 'actions', cell: (row) => row.id !== context.me.id && [
              button('Role', { kind: 'quiet', focus: `role ${row.id}`, onclick: () => role(row, context), 'aria-label': `Role of ${row.email}` }),
              button('Remove', { kind: 'quiet danger-text', focus: `remove ${row.id}`, onclick: () => dismiss(row, context), 'aria-label': `Remove ${row.email}` }),
            ],
          },
        ], accounts, { key: (row) => row.id })),
      invitations && section('Open invitations', {},
        invitations.length === 0
          ? empty('No invitation is open.', 'An invitation is a link that makes one account, for one address.')
          : table('Invitations', [
            { label: 'For', cell: (row) => h('span', { class: 'name' }, row.email) },
            { label: 'Role', cell: (row) => row.role },
            { label: 'Open for', cell: (row) => time(row.expires_at, 'until') },
            { label: '', kind: 'actions', cell: (row) => button('Withdraw', { kind: 'quiet danger-text', focus: `withdraw ${row.id}`, onclick: () => withdraw(row, context), 'aria-label': `Withdraw the invitation of ${row.email}` }) },
          ], invitations, { key: (row) => row.id })),
    ];
  },
};

function invite(context) {
  return form('Invite somebody', {
    fields: [
      field('E-mail', { name: 'email', type: 'email', required: true, autofocus: true }, { help: 'The account is for this address only.' }),
      field('Role', { name: 'role', value: 'member' }, { options: ROLES }),
    ],
    action: 'Make the invitation',
    work: async (values) => {
      const made = await again(context, () => post('/invitations', values));
      queueMicrotask(() => once(`The invitation of ${values.email}`, [
        h('p', { class: 'strong' }, 'Send it to them: it is shown once.'),
        copyable(made.url ?? `${location.origin}/#/invitation?code=${made.code}`, { secret: true, describe: 'invitation' }),
        h('p', null, 'It makes one account, and is good for ', time(made.expires_at, 'until'), '.'),
      ], context.reload));
    },
  });
}

function role(account, context) {
  return form(`Role of ${account.email}`, {
    fields: [field('Role', { name: 'role', value: account.role }, { options: ROLES })],
    action: 'Change it',
    closed: context.reload,
    work: async (values) => {
      await again(context, () => patch(`/accounts/${encodeURIComponent(account.id)}`, values));
      say(`${account.email} is ${values.role} now.`);
    },
  });
}

function dismiss(account, context) {
  return form(`Remove ${account.email}?`, {
    intro: h('p', null, 'Their sessions end, and their devices are revoked with all that those minted. There is no way back.'),
    action: 'Remove the account',
    danger: true,
    closed: context.reload,
    work: async () => {
      await again(context, () => remove(`/accounts/${encodeURIComponent(account.id)}`));
      say(`${account.email} is removed.`);
    },
  });
}

async function withdraw(invitation, context) {
  await remove(`/invitations/${encodeURIComponent(invitation.id)}`);
  say('The invitation is withdrawn.');
  await context.reload();
}
