// Projects: a namespace of names, and the master key that mints for it.

import { again } from './again.js';
import { get, post, remove, Trouble } from './api.js';
import { form, once } from './dialog.js';
import { h } from './dom.js';
import { time } from './format.js';
import { told } from './revoke.js';
import { canMakeKeys, makeKey, masterToken } from './token.js';
import { button, command, copyable, empty, field, table } from './ui.js';

export const page = {
  title: 'Projects',
  topics: ['keys'],
  load: async () => {
    const [{ projects }, able] = await Promise.all([get('/projects'), canMakeKeys()]);
    return { projects, able };
  },
  view({ projects, able }, context) {
    const add = context.owner && able && button('New project', { kind: 'primary', onclick: () => create(context), focus: 'new' });
    return [
      h('div', { class: 'head' }, h('p', { class: 'intro' }, 'A project owns names, and has a master key that mints short-lived keys for agents and scripts.'), add),
      context.owner && !able && unable(),
      projects.length === 0
        ? empty('There is no project yet.', 'Make one to get a master key; or on a machine that is signed in:', command('mytunnel projects create NAME'))
        : table('Projects', [
          { label: 'Name', cell: (row) => h('span', { class: 'strong' }, row.name) },
          { label: 'Id', cell: (row) => h('code', null, row.id) },
          { label: 'Made', cell: (row) => time(row.created_at) },
          {
            label: '', kind: 'actions', cell: (row) => [
              h('a', { class: 'button plain', href: `#/keys?project=${row.id}`, 'aria-label': `Keys of ${row.name}` }, 'Keys'),
              context.owner && button('Delete', { kind: 'quiet danger-text', focus: `delete ${row.id}`, onclick: () => destroy(row, context), 'aria-label': `Delete ${row.name}` }),
            ],
          },
        ], projects, { key: (row) => row.id }),
    ];
  },
};

function unable() {
  const why = isSecureContext
    ? 'This browser cannot make Ed25519 keys, and a master key is made where it is used. Update it, or use the command line:'
    : 'Browsers make keys only on pages reached by https, and a master key is made where it is used. Open this page by https, or use the command line:';
  return h('div', { class: 'notice warn' }, command('mytunnel projects create NAME', why));
}

function create(context) {
  // Kept until an answer came, so that a second try after a lost answer gives the same project.
  let key = null;
  return form('New project', {
    intro: h('p', null, 'Its master key is made in this browser and shown once. The server never sees its secret.'),
    fields: [field('Name', { name: 'name', required: true, maxlength: 100, autofocus: true }, { help: 'What people call it, such as the name of an app.' })],
    action: 'Make it',
    work: async ({ name }) => {
      key ??= await makeKey();
      const made = await again(context, () => post('/projects', { name, master: key.publicKey }));
      const { root, url } = context.server;
      const text = masterToken({ seed: key.seed, serial: made.serial, root, project: made.id, server: url });
      key.seed.fill(0);
      queueMicrotask(() => show(made, text, context));
    },
  });
}

function show(project, text, context) {
  once(`The master key of ${project.name}`, [
    h('p', { class: 'strong' }, 'Save it now: it is shown once, and nobody can get it again.'),
    copyable(text, { secret: true, describe: 'master key' }),
    command('read -rs MTK_MASTER && export MTK_MASTER', 'It mints keys that end by themselves; it cannot open a tunnel. Paste it at this prompt, so that it stands in no history:'),
    command(`eval "$(mytunnel eval mint --project ${project.id} --ttl 1h --output-env)"`, 'Then an agent, or a script, gets a key for an hour and shares a port:'),
    command('mytunnel http 3000 --subdomain preview'),
  ], context.reload);
}

function destroy(project, context) {
  return form(`Delete the project ${project.name}?`, {
    intro: h('p', null, 'Its keys are revoked, its tunnels end, and its names are free for others. There is no way back.'),
    fields: [field(`Type ${project.name} to delete it`, { name: 'typed', required: true, autofocus: true, spellcheck: 'false' })],
    action: 'Delete it',
    danger: true,
    closed: context.reload,
    work: async ({ typed }) => {
      if (typed.trim() !== project.name) throw mismatch(project.name);
      return told(await remove(`/projects/${project.id}`), `Deleted ${project.name}.`);
    },
  });
}

function mismatch(name) {
  return new Trouble(400, { code: 'bad_request', message: `What you typed is not "${name}".`, help: 'Nothing was deleted.' });
}
