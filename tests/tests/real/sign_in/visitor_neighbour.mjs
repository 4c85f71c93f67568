// What a neighbour of the same domain can do to a visitor who has signed in, in a real browser and over TLS: the cookies that
// it sets, by its answers and by scripts, and what it fetches.

import { createServer } from 'node:http';
import { chromium } from 'playwright-core';
import { check, stored, tell } from './house.mjs';

const [port] = process.argv.slice(2);
const [shop, evil] = ['shop', 'evil'].map((name) => `https://${name}.tun.example:${port}`);
const EVIL = 'mtk_gate=EVIL; path=/; secure';
const KEPT = '__Host-mtk_gate';

// What its answers say.
const wild = createServer((request, response) => {
  response.setHeader('content-type', 'text/html');
  if (request.url === '/answers') {
    response.setHeader('set-cookie', [
      `${EVIL}; domain=tun.example`, `__Host-${EVIL}; domain=tun.example`, `__host-${EVIL}; domain=tun.example`,
      `=__Host-${EVIL}; domain=tun.example`, `own=1; path=/`, 'theirs=1; path=/; domain=.tun.example',
    ]);
    response.setHeader('clear-site-data', '"cookies", "storage"');
  }
  response.end('<!doctype html><title>neighbour</title>');
});
await new Promise((up) => wild.listen(0, '127.0.0.1', up));
tell('neighbour', { port: wild.address().port });

const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium',
  args: ['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking', '--disable-component-update', '--disable-sync',
    '--host-resolver-rules=MAP *.tun.example 127.0.0.1'],
});
const context = await browser.newContext({ ignoreHTTPSErrors: true });
const page = await context.newPage();
page.setDefaultTimeout(20_000);

const session = async () => (await context.cookies(shop)).find((cookie) => cookie.name === KEPT)?.value;
const toss = (lines) => page.evaluate((all) => { for (const line of all) document.cookie = line; }, lines);
const neighbour = (path = '/') => page.goto(`${evil}${path}`);

async function signIn() {
  // The cookies of a sign-in that is under way may be pushed out, too: it is told, and begins anew.
  for (let tries = 0; tries < 5; tries += 1) {
    await page.goto(`${shop}/head`);
    if (await page.getByPlaceholder('Enter any login').isVisible()) {
      await page.getByPlaceholder('Enter any login').fill('ann@acme.example');
      await page.getByPlaceholder('and password').fill('any');
      await page.getByRole('button', { name: 'Sign-in' }).click();
      await page.getByRole('button', { name: 'Continue' }).click();
      await page.waitForURL(`${shop}/**`);
    }
    if (page.url() === `${shop}/head`) return session();
    check(/SIGN_IN_STALE|load the page again/.test(await page.locator('body').innerText()), `neither in nor told why at ${page.url()}`);
  }
  return undefined;
}

/** What the server behind the gate sees of her, who is in. */
async function seen() {
  const answer = await page.goto(`${shop}/head`);
  const head = (await page.locator('body').innerText()).toLowerCase();
  check(answer.status() === 200 && head.includes('x-forwarded-email: ann@acme.example'), `${answer.status()} ${page.url()} ${head}`);
  check(!head.includes('mtk_'), `a cookie of the gate reaches the server: ${head}`);
  return head;
}

try {
  do await neighbour(); while ((await page.title()) !== 'neighbour');
  const first = await signIn();
  const [kept] = (await context.cookies(shop)).filter((cookie) => cookie.name === KEPT);
  check(kept?.secure && kept.httpOnly && kept.path === '/' && kept.domain === 'shop.tun.example', JSON.stringify(kept));

  { // By its answers: nothing for others, and theirs are not wiped; its own cookies are its own affair.
    await neighbour('/answers');
    check(await session() === first, 'an answer of a neighbour touches the session');
    const names = (await context.cookies(shop)).map((cookie) => cookie.name);
    check(names.length === 1, `an answer of a neighbour sets ${names}`);
    check((await context.cookies(evil)).some((cookie) => cookie.name === 'own'), 'a cookie of its own is kept from it');
    await seen();
  }
  { // By a script: what the browser takes is not believed, and locks nobody out.
    await neighbour();
    const odd = '\u2000__Host-';
    await toss(['', '__Host-', '__host-', '=__Host-', odd].flatMap((prefix) => [
      `${prefix}${EVIL}; domain=tun.example`, `${prefix}${EVIL.replace('path=/', 'path=/head')}; domain=tun.example`]));
    // The browser puts cookies away some time after the script has set them: until they are the same twice.
    const taken = async () => (await context.cookies(`${shop}/head`)).filter((cookie) => cookie.value.includes('EVIL'));
    const until = Date.now() + 20000;
    let [tossed, before] = [await taken(), -1];
    while ((tossed.length === 0 || tossed.length !== before) && Date.now() < until) [before, tossed] = [tossed.length, await taken()];
    check(tossed.length > 0, 'the browser takes none of them: nothing is tried here');
    check(await session() === first, 'a script of a neighbour touches the session');
    await seen();

    const other = await browser.newContext({ ignoreHTTPSErrors: true });
    await other.addCookies(tossed);
    const tab = await other.newPage();
    await tab.goto(`${shop}/head`);
    check(await tab.getByPlaceholder('Enter any login').isVisible(), `cookies of a neighbour let in: ${tab.url()}`);
    await other.close();
  }
  { // What it fetches comes with her session, as the browser calls it the same site: it reads nothing, and signs nobody out.
    await neighbour();
    const read = await page.evaluate(async (from) => fetch(from, { credentials: 'include' }).then((answer) => answer.text(), () => undefined), `${shop}/head`);
    check(read === undefined, `a neighbour reads ${read}`);
    await page.evaluate((at) => fetch(at, { method: 'POST', mode: 'no-cors', credentials: 'include' }), `${shop}/.mytunnel/sign-out`);
    await page.evaluate((at) => {
      const form = Object.assign(document.createElement('form'), { method: 'post', action: at });
      document.body.append(form);
      form.submit();
    }, `${shop}/.mytunnel/sign-out`);
    await page.waitForURL(`${shop}/.mytunnel/sign-out`);
    check(await session() === first, 'a neighbour signs somebody out');
    await seen();
  }
  { // Cookies by the hundred push the session out of the browser: she is asked anew, and gets in again.
    await neighbour();
    // The browser puts cookies away some time after the script has set them.
    do await toss(Array.from({ length: 400 }, (_, at) => `junk${at}=1; path=/; domain=tun.example; secure`)); while (await session());
    check(await signIn(), 'she does not get in again');
    await seen();
  }
  { // A bomb of cookies: told once, and then they are gone.
    await neighbour();
    await toss(Array.from({ length: 40 }, (_, at) => `bomb${at}=${'x'.repeat(3500)}; path=/; domain=tun.example; secure`));
    await stored(context, shop, (name) => name.startsWith('bomb'), 40);
    const bombed = await page.goto(`${shop}/head`);
    check(bombed.status() === 431, `a bomb is answered ${bombed.status()}`);
    check(await signIn(), 'she is locked out by a bomb of cookies');
    await seen();
  }
} catch (error) {
  throw new Error(`at ${page.url()}: ${error.message}\n${await page.locator('body').innerText()}`);
} finally {
  await browser.close();
  wild.close();
  wild.closeAllConnections();
}
tell('done');
