// What an attacker makes of a visitor's sign-in at a gate, with a real provider: tickets and answers of others, cookies that
// siblings toss, addresses that lead elsewhere, headers that pose as the relay's.

import { check, tell } from './house.mjs';
import { browsers } from './visitor_browser.mjs';

const [site] = process.argv.slice(2);
const { host } = new URL(site);
const Browser = browsers(site);

const is = (answer, status, error) => check(answer.status === status && answer.error === error, `${answer.status} ${answer.error}, not ${status} ${error}`);

const ann = new Browser();
const used = await ann.enter('ann@acme.example');
is(await ann.go(`${site}/head`), 200, undefined);

{ // A ticket is good once, also for whom it was made: who is in already only goes on.
  const session = ann.session;
  const again = await ann.go(used);
  is(again, 302, undefined);
  check(again.to === `${site}/head` && ann.session === session, `${again.to} by a ticket that was used`);
  const pre = new Browser();
  const ticket = await pre.ticket('ann@acme.example');
  const cookies = new Map(pre.jar(host));
  is(await pre.go(ticket), 302, undefined);
  pre.cookies.set(host, cookies);
  is(await pre.go(ticket), 400, 'SIGN_IN_STALE');
}
{ // Ticket theft, and login CSRF: another browser has another cookie, or none.
  const ticket = await new Browser().ticket('ann@acme.example');
  is(await new Browser().go(ticket), 400, 'SIGN_IN_STALE');
  const session = ann.session;
  is(await ann.go(ticket), 302, undefined);
  check(ann.session === session, 'a stolen ticket changes who somebody is');
  const other = new Browser();
  await other.ticket('eve@evil.example');
  is(await other.go(ticket), 400, 'SIGN_IN_STALE');
  check(!other.session, 'a session by a stolen ticket');
}
{ // Callback theft: the answer of the provider in another browser.
  const answer = await new Browser().callback('ann@acme.example');
  is(await new Browser().go(answer), 400, 'SIGN_IN_STALE');
  const other = new Browser();
  await other.callback('eve@evil.example');
  is(await other.go(answer), 400, 'SIGN_IN_STALE');
}
{ // Two pages of one browser that sign in at once: both end where they began, whichever comes first.
  const browser = new Browser();
  const [one, two] = [await browser.callback('ann@acme.example', `${site}/head?one`), await browser.callback('ann@acme.example', `${site}/head?two`)];
  const [first, second] = [(await browser.go(two)).to, (await browser.go(one)).to];
  check(first.includes('/ticket') && second.includes('/ticket'), `${first} ${second}`);
  const ends = [(await browser.go(first)).to, (await browser.go(second)).to];
  check(ends[0] === `${site}/head?two` && ends[1] === `${site}/head?one`, `${ends}`);
  is(await browser.go(ends[1]), 200, undefined);
}
{ // Mix-up, code injection and a state of nobody.
  for (const [name, value] of [['iss', 'https://evil.example'], ['state', 'AAAA'], ['code', 'stolen']]) {
    const browser = new Browser();
    const answer = new URL(await browser.callback('ann@acme.example'));
    answer.searchParams.set(name, value);
    const told = await browser.go(answer.href);
    check(told.status >= 400 && told.error?.startsWith('SIGN_IN_'), `${name}: ${told.status} ${told.error}`);
  }
  const [one, two] = [new Browser(), new Browser()];
  const [theirs, mine] = [await one.callback('ann@acme.example'), new URL(await two.callback('eve@evil.example'))];
  mine.searchParams.set('code', new URL(theirs).searchParams.get('code'));
  is(await two.go(mine.href), 502, 'SIGN_IN_DOWN');
}
{ // What begins at another host, or at none, or was changed on the way.
  const begun = (await new Browser().go(`${site}/head`)).to;
  check(begun.includes('/.mytunnel/sign-in?begin='), begun);
  const sealed = new URL(begun).searchParams.get('begin');
  for (const bad of ['', 'AAAA', `${sealed}A`, sealed.slice(0, -4), sealed.replace(/.$/, (last) => (last === 'A' ? 'B' : 'A'))]) {
    const address = new URL(begun);
    address.searchParams.set('begin', bad);
    is(await new Browser().go(address.href), 400, 'SIGN_IN_STALE');
  }
}
{ // The way back stays on the host.
  for (const to of ['//evil.example/', '/\\evil.example', 'https://evil.example', '/%09/evil', '/.mytunnel/sign-out', '/\u2000']) {
    const browser = new Browser();
    const ticket = await browser.ticket('ann@acme.example', `${site}/.mytunnel/sign-in?to=${encodeURIComponent(to)}`);
    const { to: back } = await browser.go(ticket);
    check(new URL(back).host === host && !back.includes('/.mytunnel/'), `${to} leads to ${back}`);
  }
}
{ // Cookies that a sibling tosses keep nobody out and let nobody in.
  const right = ann.session;
  const shown = async (cookie) => (await new Browser().go(`${site}/head`, { headers: { cookie, accept: 'application/json' } })).status;
  const odd = Buffer.from('\u2000').toString('latin1');
  check(await shown(`mtk_gate=${right}`) === 200, 'the session alone');
  check(await shown(`${odd}mtk_gate=evil; x=${odd}; mtk_gate=${right}`) === 200, 'a sibling locks somebody out');
  for (const evil of [`mtk_gate=${right}; mtk_gate=${right}`, `${odd}mtk_gate=${right}`, `__Host-mtk_gate=${right}`, `mtk_gate=${right}x`, `MTK_GATE=${right}`]) {
    check(await shown(evil) === 401, `${evil} lets in`);
  }
}
{ // Programs are told, headers that pose as ours are dropped, and a session is for its host.
  is(await new Browser().go(`${site}/head`, { headers: { accept: 'application/json' } }), 401, 'SIGN_IN_REQUIRED');
  is(await new Browser().go(`${site}/head`, { headers: { 'sec-fetch-mode': 'cors' } }), 401, 'SIGN_IN_REQUIRED');
  is(await new Browser().go(`${site}/head`, { method: 'POST' }), 401, 'SIGN_IN_REQUIRED');
  const lies = { 'x-forwarded-user': 'root', 'x-forwarded-email': 'root@acme.example', 'x_forwarded_user': 'root', 'X-Auth-Request-Email': 'root', 'remote-user': 'root' };
  const seen = (await ann.go(`${site}/head`, { headers: lies })).body.toLowerCase();
  check(!seen.includes('root') && seen.includes('x-forwarded-email: ann@acme.example'), seen);
  const unproven = new Browser();
  await unproven.enter('unproven@acme.example');
  const anybody = (await unproven.go(`${site}/head`)).body.toLowerCase();
  check(!anybody.includes('x-forwarded-email') && anybody.includes('x-forwarded-user: unproven@acme.example'), anybody);
}
{ // Signing out is for the page itself to ask.
  for (const headers of [{ 'sec-fetch-site': 'same-site' }, { origin: 'http://evil.localhost' }, { origin: 'null' }]) {
    is(await ann.go(`${site}/.mytunnel/sign-out`, { method: 'POST', headers }), 403, 'CROSS_SITE');
  }
  check(ann.session, 'a sibling signs somebody out');
  const thief = new Browser();
  for (const [of, jar] of ann.cookies) thief.cookies.set(of, new Map(jar));
  is(await thief.go(`${site}/head`), 200, undefined);
  is(await ann.go(`${site}/.mytunnel/sign-out`, { method: 'POST', headers: { 'sec-fetch-site': 'same-origin' } }), 200, undefined);
  check(!ann.session, 'the session is still there');
  is(await thief.go(`${site}/head`, { method: 'POST' }), 401, 'SIGN_IN_REQUIRED');
}
tell('done', { unproven: true });
