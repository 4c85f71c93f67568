// The page of requests: follows the share, and shows what is chosen by the address.

import * as api from './api.js';
import * as detail from './detail.js';
import { say } from './dom.js';
import * as list from './list.js';

/** Between two looks, however much comes in. */
const REST = 250;
const AWAY = 2000;

const search = document.querySelector('#search');
const live = document.querySelector('#live');
let version = 0;
let text = '';

const chosen = () => Number(location.hash.match(/^#\/(\d+)$/)?.[1] ?? 0);
const rest = (ms) => new Promise((done) => { setTimeout(done, ms); });

function tell(state, words) {
  live.dataset.state = state;
  if (live.textContent !== words) live.textContent = words;
}

/** A round: everything that matches a search, or what changed where there is none. */
async function look(wait) {
  const wanted = text;
  const answer = wait ? await api.list(version, wanted, true) : await api.list(0, wanted, false);
  if (wanted !== text) return;
  // With a search, what does not match any more can be told only by looking at all.
  if (wait && wanted && answer.version > version) return look(false);
  const found = new Set(answer.requests.map(({ id }) => id));
  list.show(answer.requests, (id) => id >= answer.oldest && (wait || found.has(id)), chosen());
  version = answer.version;
  document.querySelector('#target').textContent = `to ${answer.target}`;
  document.querySelector('#none').hidden = list.count() > 0;
  document.querySelector('#none').textContent = wanted ? 'Nothing here has that in it.' : 'No requests yet. They show here as they come.';
  tell('live', answer.missed ? `live · ${answer.missed} connections came too fast to be recorded` : 'live');
  if (answer.requests.some(({ id }) => id === chosen())) await open(false);
}

async function follow() {
  let fresh = true;
  for (;;) {
    try {
      await look(!fresh);
      fresh = false;
      await rest(REST);
    } catch (error) {
      tell('away', 'the share does not answer');
      fresh = true;
      await rest(AWAY);
    }
  }
}

async function open(fresh) {
  const id = chosen();
  document.body.dataset.view = id ? 'detail' : 'list';
  list.choose(id);
  if (!id) {
    detail.nothing('Choose a request to see its head and body.');
    return;
  }
  try {
    await detail.show(id, fresh);
  } catch (error) {
    detail.nothing(`This request cannot be shown: ${error.message}.`);
  }
}

search.addEventListener('input', async () => {
  text = search.value.trim();
  try {
    await look(false);
  } catch (error) {
    say(`That did not work: ${error.message}.`);
  }
});

document.querySelector('#clear').addEventListener('click', async () => {
  try {
    await api.clear();
    await look(false);
    say('Cleared.');
  } catch (error) {
    say(`That did not work: ${error.message}.`);
  }
});

addEventListener('hashchange', () => open(true));
addEventListener('keydown', (event) => {
  const typing = event.target.closest?.('input, textarea, select');
  if (event.key === '/' && !typing) {
    event.preventDefault();
    search.focus();
  }
  if (event.key === 'Escape' && event.target === search) {
    search.value = '';
    search.dispatchEvent(new Event('input'));
  }
});

await open(true);
follow();
