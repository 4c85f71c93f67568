// What an attacker does with the answers of a real provider: each ends on the page of sign-in, and in no session.

import { check, tell } from './house.mjs';

const [url, token] = process.argv.slice(2);
const API = `${url}/api/v1/auth`;

/** A browser of which nothing is needed but its cookies. */
class Browser {
  cookies = new Map();

  async go(address, options = {}) {
    const jar = this.jar(address);
    const headers = { ...options.headers, cookie: [...jar].map(([name, value]) => `${name}=${value}`).join('; ') };
    const response = await fetch(address, { ...options, headers, redirect: 'manual' });
    for (const line of response.headers.getSetCookie()) {
      const [, name, value] = /^([^=]+)=([^;]*)/.exec(line);
      if (value === '' || /expires=Thu, 01 Jan 1970|max-age=0/i.test(line)) jar.delete(name);
      else jar.set(name, value);
    }
    const to = response.headers.get('location');
    return { status: response.status, to: to && new URL(to, address).href, body: await response.text() };
  }

  jar(address) {
    const { host } = new URL(address);
    if (!this.cookies.has(host)) this.cookies.set(host, new Map());
    return this.cookies.get(host);
  }

  /** Begins at the coordinator and agrees at the provider: the address to which the provider sends back. */
  async agree(email, start = `${API}/oauth/op/start`) {
    let at = start.startsWith(`${API}/`) ? (await this.go(start)).to : start;
    for (let step = 0; step < 12; step += 1) {
      if (at.startsWith(`${API}/`)) return new URL(at);
      if (!at.includes('/interaction/')) at = (await this.go(at)).to;
      else {
        const prompt = /name="prompt" value="(\w+)"/.exec((await this.go(at)).body)[1];
        const body = new URLSearchParams({ prompt, login: email, password: 'any' });
        at = (await this.go(at, { method: 'POST', body })).to;
      }
    }
    throw new Error(`the provider goes round in circles: ${at}`);
  }

  get signedIn() {
    return this.jar(url).has('__Host-mtk_rt');
  }
}

async function ends(browser, address, word) {
  const { to } = await browser.go(String(address));
  check(to === `${url}/#/login?${word}`, `${word} was wanted, and came: ${to}`);
  check(browser.signedIn === (word === 'signed_in=1'), `${word}: a session?`);
}

const change = (address, changes) => {
  const changed = new URL(address);
  for (const [name, value] of Object.entries(changes)) {
    if (value === null) changed.searchParams.delete(name);
    else changed.searchParams.set(name, value);
  }
  return changed;
};

// The owner connects the identity.
const owner = new Browser();
const asked = await owner.go(`${API}/identities`, {
  method: 'POST', body: JSON.stringify({ provider: 'op' }), headers: { authorization: `Bearer ${token}`, 'content-type': 'application/json' },
});
const linked = await owner.go(String(await owner.agree('owner@example.com', JSON.parse(asked.body).url)));
check(linked.to === `${url}/#/security?linked=op`, linked.to);
check(!owner.signedIn, 'connecting is no sign-in');

const victim = async () => {
  const browser = new Browser();
  return [browser, await browser.agree('owner@example.com')];
};

{ // It works, once.
  const [browser, back] = await victim();
  check(back.searchParams.get('iss') !== null, 'the provider names itself');
  await ends(browser, back, 'signed_in=1');
  browser.cookies.clear();
  await ends(browser, back, 'error=stale');
}
{ // Mix-up: the answer names another provider, or none though this one always does.
  for (const iss of ['https://evil.example', null]) {
    const [browser, back] = await victim();
    await ends(browser, change(back, { iss }), 'error=answer');
  }
}
{ // Mix-up: the answer of one comes to the address of another.
  const [browser, back] = await victim();
  await ends(browser, String(back).replace('/oauth/op/', '/oauth/other/'), 'error=stale');
}
{ // Code injection: the attacker's code in the victim's browser. The verifier is another one.
  const [attacker, stolen] = await victim();
  const [browser, back] = await victim();
  await ends(browser, change(back, { code: stolen.searchParams.get('code') }), 'error=answer');
  check(!attacker.signedIn, 'the attacker has a session');
}
{ // Login CSRF: the attacker's whole answer in the victim's browser, which began something else, or nothing.
  const [, back] = await victim();
  await ends(new Browser(), back, 'error=stale');
  const [, again] = await victim();
  const [browser] = await victim();
  await ends(browser, again, 'error=stale');
}
{ // A state that nobody gave out, and a code that was used at the provider by somebody else.
  const [browser, back] = await victim();
  await ends(browser, change(back, { state: `${back.searchParams.get('state')}x` }), 'error=stale');
  const [other, theirs] = await victim();
  const [, used] = [await ends(other, theirs, 'signed_in=1'), theirs.searchParams.get('code')];
  const [late, fresh] = await victim();
  await ends(late, change(fresh, { code: used }), 'error=answer');
}
{ // Somebody else, and somebody whose address the provider does not know to be theirs.
  for (const [email, word] of [['stranger@example.org', 'no_account'], ['unproven@example.org', 'unverified']]) {
    const browser = new Browser();
    await ends(browser, await browser.agree(email), `error=${word}`);
  }
}
tell('done');
