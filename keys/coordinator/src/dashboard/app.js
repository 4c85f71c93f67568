// The frame: who is signed in, which page is shown, and when it is read again.

import * as api from './api.js';
import { page as audit } from './audit.js';
import { page as devices } from './devices.js';
import { h, replace } from './dom.js';
import { tick } from './format.js';
import { page as keys } from './keys.js';
import { follow } from './live.js';
import { page as overview } from './overview.js';
import { page as people } from './people.js';
import { page as plan } from './plan.js';
import { page as projects } from './projects.js';
import { page as security } from './security.js';
import { doors } from './sign-in.js';
import { page as tunnels } from './tunnels.js';
import { button, failure } from './ui.js';
import { page as usage } from './usage.js';

const PAGES = { '': overview, tunnels, projects, keys, usage, audit, devices, security, people, plan };
const GROUPS = [['', 'tunnels', 'projects', 'keys', 'usage', 'audit'], ['devices', 'security', 'people', 'plan']];

const main = document.getElementById('main');
const nav = document.getElementById('nav');
const menu = document.getElementById('menu');

/** What every page gets. */
const session = { me: null, server: null, unfollow: null, wanted: null, begun: false };
let shown = null;

/** Reads the address: `#/keys?project=proj_a`. */
function address() {
  const [path, query = ''] = location.hash.replace(/^#\/?/, '').split('?');
  return { name: path, params: new URLSearchParams(query) };
}

/** What is secret in an address does not stay in the history. */
function forget(name) {
  history.replaceState(null, '', `#/${name}`);
}

function go(path) {
  const hash = `#/${path}`;
  if (location.hash === hash) route();
  else location.hash = hash;
}

/** Shows what the address says, as far as whoever is here may see it. */
function route() {
  const { name, params } = address();
  closeMenu();
  const door = doors[name];
  if (door && (!api.signedIn() || door.always)) return enter(door, name, params);
  if (!api.signedIn()) {
    if (!door) session.wanted = location.hash;
    const first = session.server?.lacks_owner ? 'setup' : 'login';
    return enter(doors[first], first, params);
  }
  if (door) return go('');
  return visit(PAGES[name] ?? lost, name, params);
}

const lost = {
  title: 'There is no such page',
  view: () => h('p', null, 'The address may be of another version. ', h('a', { href: '#/' }, 'Go to the overview.')),
};

function enter(door, name, params) {
  shown = null;
  session.begun = true;
  nav.hidden = menu.hidden = true;
  document.body.classList.add('out');
  const secrets = Object.fromEntries(params);
  if (params.size > 0) forget(name);
  const heading = title(door.title);
  const context = { server: session.server, params: secrets, go, signedIn: begin };
  main.replaceChildren(h('div', { class: 'door' }, heading, door.view(context)));
  (main.querySelector('[autofocus]') ?? heading).focus();
}

/** After a sign-in. */
async function begin(token, email) {
  api.signIn(token);
  await who(email);
  const wanted = session.wanted;
  session.wanted = null;
  session.server.lacks_owner = false;
  history.replaceState(null, '', wanted ?? '#/');
  route();
}

async function who(email = '') {
  const me = await api.optional(api.get('/auth/me'));
  session.me = me ?? { email, role: 'owner', mfa_enabled: null };
  document.body.classList.remove('out');
  drawNav();
  session.unfollow ??= follow(changed, (state) => {
    document.body.dataset.live = state;
  });
}

function title(text) {
  document.title = `${text} · mytunnel`;
  return h('h1', { tabindex: -1 }, text);
}

/** Opens a page: reads, then draws. Another visit in the meantime wins. */
function visit(page, name, params) {
  const heading = title(page.title);
  const region = h('div', { class: 'page' });
  const visit = { page, region, state: {}, drawn: null, reading: null, again: false };
  visit.context = {
    me: session.me, server: session.server, params, go, state: visit.state,
    owner: session.me.role === 'owner',
    reload: () => read(visit),
    redraw: () => draw(visit),
    whoami: async () => {
      await who(session.me.email);
      visit.context.me = session.me;
    },
  };
  shown = visit;
  for (const link of nav.querySelectorAll('a[data-page]')) {
    if (link.dataset.page === name) link.setAttribute('aria-current', 'page');
    else link.removeAttribute('aria-current');
  }
  main.replaceChildren(heading, region);
  // At the start the reader is at the top of the window, before the skip link.
  if (session.begun) heading.focus({ preventScroll: true });
  session.begun = true;
  scrollTo(0, 0);
  return read(visit, true);
}

/** Reads what the page shows and draws it, unless it is as it was. One at a time, and once more if it was asked for. */
function read(visit, first = false) {
  if (visit.reading) {
    visit.again = true;
    return visit.reading;
  }
  visit.reading = (async () => {
    do {
      visit.again = false;
      await readOnce(visit, first);
      first = false;
    } while (visit.again && shown === visit);
  })().finally(() => {
    visit.reading = null;
  });
  return visit.reading;
}

async function readOnce(visit, first) {
  try {
    const data = visit.page.load ? await visit.page.load(visit.context) : null;
    if (shown !== visit) return;
    const text = JSON.stringify(data);
    if (text === visit.text && !visit.failed) return;
    Object.assign(visit, { text, data, failed: false });
    draw(visit);
  } catch (error) {
    if (shown !== visit || error.name === 'AbortError' || error.status === 401) return;
    // What was read before is better than nothing while the coordinator is away.
    if (!first && visit.text && error.status === 0) return;
    visit.failed = true;
    replace(visit.region, failure(error, () => read(visit, true)));
  }
}

function draw(visit) {
  if (shown !== visit || visit.text === undefined) return;
  try {
    replace(visit.region, visit.page.view(visit.data, visit.context));
    visit.region.dataset.ready = '1';
  } catch (error) {
    visit.failed = true;
    replace(visit.region, failure(error, () => read(visit, true)));
  }
}

/** Something changed at the coordinator. */
function changed(topics) {
  const mine = shown?.page.topics;
  if (mine && (topics === null || topics.some((topic) => mine.includes(topic)))) read(shown);
}

function drawNav() {
  const links = GROUPS.map((names) => h('ul', null, names
    .filter((name) => session.me.role === 'owner' || !PAGES[name].owners)
    .map((name) => h('li', null, h('a', { href: `#/${name}`, 'data-page': name }, PAGES[name].title)))));
  nav.replaceChildren(
    h('nav', { 'aria-label': 'Pages' }, links),
    h('div', { class: 'who' },
      h('p', { title: session.me.email }, session.me.email || 'Signed in'),
      h('p', { class: 'pulse', 'aria-hidden': 'true' }),
      button('Sign out', { onclick: api.signOut })),
  );
  nav.hidden = menu.hidden = false;
}

function closeMenu() {
  menu.setAttribute('aria-expanded', 'false');
  document.body.classList.remove('menu');
}

menu.addEventListener('click', () => {
  const open = menu.getAttribute('aria-expanded') !== 'true';
  menu.setAttribute('aria-expanded', String(open));
  document.body.classList.toggle('menu', open);
});
document.addEventListener('keydown', (event) => {
  if (event.key === 'Escape' && document.body.classList.contains('menu')) {
    closeMenu();
    menu.focus();
  }
});
document.getElementById('skip').addEventListener('click', (event) => {
  event.preventDefault();
  main.focus();
});

api.whenSignedOut(() => {
  session.unfollow?.();
  session.unfollow = null;
  session.me = null;
  // What is said stands in a dialog that is open.
  document.body.append(document.getElementById('said'));
  for (const dialog of document.querySelectorAll('dialog')) dialog.remove();
  go('login');
});

/** Asks who is here, then shows what was asked for. */
async function start() {
  try {
    session.server = await api.send('GET', '/console');
    if (!session.server.lacks_owner && (await api.renew())) await who();
    addEventListener('hashchange', route);
    setInterval(tick, 1000);
    // Use is counted all the time and is no event.
    setInterval(() => document.hidden || changed(['usage']), 15_000);
    route();
  } catch (error) {
    main.replaceChildren(title('mytunnel'), failure(error, () => location.reload()));
  }
}

start();
