// A visitor signs in before a tunnel, is kept out when the list changes, comes as somebody else, and signs out. And a
// visitor types a PIN.

import { check, house, shot, stored, tell } from './house.mjs';

const [site, pinned, pin, secure] = process.argv.slice(2);
const next = () => new Promise((heard) => process.stdin.once('data', heard));

async function beThere(page, email) {
  await page.getByPlaceholder('Enter any login').fill(email);
  await page.getByPlaceholder('and password').fill('any');
  await page.getByRole('button', { name: 'Sign-in' }).click();
  await page.getByRole('button', { name: 'Continue' }).click();
}

await house(async (page, context) => {
  await page.goto(`${site}/head`);
  await beThere(page, 'ann@acme.example');
  await page.waitForURL(`${site}/head`);
  const head = (await page.locator('body').innerText()).toLowerCase();
  check(head.includes('x-forwarded-email: ann@acme.example'), `who it is reaches the server: ${head}`);
  check(head.includes('x-forwarded-user: ann@acme.example'), head);
  check(!head.includes('mtk_'), `no cookie of the gate does: ${head}`);
  const names = (await context.cookies(site)).map((cookie) => cookie.name);
  check(names.includes('mtk_gate') && !names.includes('mtk_pre'), `cookies: ${names}`);
  check(await page.evaluate(() => document.cookie) === '', 'a script reads the session');
  check(await page.evaluate(() => fetch('/head').then((answer) => answer.status)) === 200, 'a script of the page is let in');

  tell('entered');
  while (!(await page.getByRole('heading', { name: /You may not enter/ }).isVisible())) await page.reload();
  check((await page.locator('body').innerText()).includes('ann@acme.example'), 'the page does not name who is kept out');
  await shot(page, 'visitor-denied');
  await page.getByRole('link', { name: 'Sign in as somebody else' }).click();
  await beThere(page, 'bob@other.example');
  await page.waitForURL(`${site}/head`);
  check((await page.locator('body').innerText()).toLowerCase().includes('x-forwarded-email: bob@other.example'), 'another comes in');

  await page.goto(`${site}/.mytunnel/sign-out`);
  await page.getByText('bob@other.example').waitFor();
  await shot(page, 'visitor-sign-out');
  await page.getByRole('button', { name: 'Sign out' }).click();
  await page.getByRole('heading', { name: /You are signed out/ }).waitFor();
  check(!(await context.cookies(site)).some((cookie) => cookie.name === 'mtk_gate'), 'the session is still there');

  // The page that asks for a PIN, by the keyboard alone and without a script.
  await page.goto(`${pinned}/head`);
  await page.locator('input:focus').waitFor();
  await shot(page, 'visitor-pin');
  await page.keyboard.type('000000');
  await page.keyboard.press('Enter');
  await page.getByRole('alert').getByText('That was not it').waitFor();
  await page.locator('input:focus').waitFor();
  await page.keyboard.type(pin);
  await page.keyboard.press('Enter');
  await page.waitForURL(`${pinned}/head`);
  check(!(await page.locator('body').innerText()).includes('mtk_'), 'the cookie reaches the server');

  // More cookies than a head may have, as a page of a neighbour can set them: told once, and then they are gone.
  await page.evaluate(() => { for (let at = 0; at < 40; at += 1) document.cookie = `junk${at}=${'x'.repeat(3500)}; path=/`; });
  await stored(context, pinned, (name) => name.startsWith('junk'), 40);
  const bombed = await page.goto(`${pinned}/head`);
  check(bombed.status() === 431 && (await page.locator('body').innerText()).includes('load the page again'), `${bombed.status()}`);
  // The browser deletes them a moment after it has shown the page.
  const until = Date.now() + 20_000;
  const asks = page.getByRole('heading', { name: /asks for a PIN/ });
  do await page.goto(`${pinned}/head`); while (!(await asks.isVisible()) && Date.now() < until);
  check(await asks.isVisible(), 'the browser is still locked out');
  let left = await context.cookies(pinned);
  while (left.length > 0 && Date.now() < until) left = await context.cookies(pinned);
  check(left.length === 0, `cookies are left: ${left.map((cookie) => cookie.name)}`);

  // Over TLS the session has the name that no other host can set.
  const other = await context.browser().newContext({ ignoreHTTPSErrors: true });
  const tab = await other.newPage();
  await tab.goto(`${secure}/head`);
  // A busy browser gives the field its focus a moment after the page is there.
  await tab.locator('input:focus').waitFor();
  await tab.keyboard.type(pin);
  await tab.keyboard.press('Enter');
  // The page that asks has the address of what is behind it.
  await tab.getByText('x-forwarded-proto').waitFor();
  check(!(await tab.locator('body').innerText()).includes('mtk_'), 'the cookie reaches the server over TLS');
  const [cookie] = await other.cookies(secure);
  check(cookie.name === '__Host-mtk_pin' && cookie.secure && cookie.httpOnly && cookie.path === '/', JSON.stringify(cookie));
  await tab.goto(`${pinned}/head`);
  check(await tab.getByRole('heading', { name: /asks for a PIN/ }).isVisible(), 'a session of TLS counts over plain HTTP');
  await other.close();
}, { width: 390, height: 700, dark: true });
tell('done');
