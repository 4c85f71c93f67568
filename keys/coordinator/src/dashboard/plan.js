// The plan of the organisation: what it has, and until when.

import { get, optional } from './api.js';
import { h } from './dom.js';
import { moment, now, time } from './format.js';
import { facts, mark, missing } from './ui.js';

const PLANS = {
  pro: 'Everything, without an end.',
  trial: 'Everything, until the trial ends.',
  free: 'Tunnels, keys and sign-ins before tunnels. New passwords before tunnels need another plan; those that are set go on working.',
};

export const page = {
  title: 'Plan',
  topics: ['accounts'],
  load: async () => ({ tenant: await optional(get('/tenant')) }),
  view({ tenant }) {
    if (!tenant) return missing('plans');
    const over = tenant.plan === 'trial' && tenant.trial_ends_at !== null && tenant.trial_ends_at <= now();
    const held = over ? 'free' : tenant.plan;
    return [
      facts([
        ['Plan', [h('span', { class: 'strong' }, tenant.plan), over && [' ', mark('ended', 'bad')]]],
        tenant.trial_ends_at && ['Trial', [time(tenant.trial_ends_at, 'until'), h('span', { class: 'faint' }, ` (${moment(tenant.trial_ends_at)})`)]],
        ['What it has', PLANS[held] ?? ''],
        ['Organisation', h('code', null, tenant.id)],
      ]),
      h('p', { class: 'intro' }, 'Whoever runs this server sets the plan; on one of your own it is pro unless you change it.'),
    ];
  },
};
