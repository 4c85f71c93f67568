// Whether a webhook is from who says so. Secrets stay in this page's memory, and end with it.

import * as api from './api.js';
import { h } from './dom.js';
import { header } from './format.js';

const PROVIDERS = [
  ['stripe', 'Stripe', 'stripe-signature'],
  ['github', 'GitHub', 'x-hub-signature-256'],
  ['slack', 'Slack', 'x-slack-signature'],
  ['shopify', 'Shopify', 'x-shopify-hmac-sha256'],
  ['twilio', 'Twilio', 'x-twilio-signature'],
  ['standard', 'Standard Webhooks (Svix and others)', 'webhook-signature'],
];

const known = new Map();

export function signature(request, close) {
  const has = ([id, , name]) => header(request.request.headers, name)
    || (id === 'standard' && header(request.request.headers, 'svix-signature'));
  const guess = PROVIDERS.find(has)?.[0] ?? 'stripe';
  const provider = h('select', { id: 'provider' }, PROVIDERS.map(([id, name]) => h('option', { value: id, selected: id === guess }, name)));
  const secret = h('input', { id: 'secret', type: 'password', autocomplete: 'off', spellcheck: 'false', required: true, value: known.get(guess) ?? '' });
  provider.addEventListener('change', () => { secret.value = known.get(provider.value) ?? ''; });
  const verdict = h('div', { id: 'verdict', role: 'status' });
  const submit = async (event) => {
    event.preventDefault();
    known.set(provider.value, secret.value);
    try {
      const { valid, reason } = await api.verify(request.id, provider.value, secret.value);
      verdict.replaceChildren(h('p', { class: `notice ${valid ? 'good' : 'bad'}` },
        h('strong', null, valid ? 'Valid' : 'Not valid'), `: ${reason}.`));
    } catch (error) {
      verdict.replaceChildren(h('p', { class: 'notice bad' }, `That did not work: ${error.message}.`));
    }
  };
  return h('form', { class: 'panel', onsubmit: submit },
    h('h3', null, 'Check signature'),
    h('div', { class: 'pair even' },
      h('div', { class: 'field' }, h('label', { for: 'provider' }, 'Signed by'), provider),
      h('div', { class: 'field' }, h('label', { for: 'secret' }, 'Secret of the endpoint'), secret,
        h('p', { class: 'faint' }, 'Kept in this page only, until it is closed.'))),
    verdict,
    h('div', { class: 'actions' },
      h('button', { type: 'submit', class: 'button primary' }, 'Check'),
      h('button', { type: 'button', class: 'button', onclick: close }, 'Close')));
}
