// The page of requests, from an empty list to an edited replay; then how it looks, and that a keyboard will do.

import { check, house, shot, tell } from './house.mjs';

// By the name for which the house takes every fault to heart.
const url = process.argv[2].replace('127.0.0.1', 'localhost');

const rows = (page) => page.locator('#list .row');
const said = (page, words) => page.locator('#said').getByText(words).waitFor();

await house(async (page) => {
  await page.goto(url);
  await page.getByText('No requests yet.').waitFor();
  tell('empty');

  // Live, the latest first, without secrets.
  await page.getByText('/no-such-page').waitFor();
  // It is there when it comes, and its status when it is answered.
  await rows(page).getByText('404').waitFor();
  check(await rows(page).count() === 3, 'three requests');
  check((await rows(page).first().innerText()).includes('404'), 'the latest is first');
  check((await page.locator('#list').innerText()).includes('/upload?token=***'), 'its secret is masked');

  // Search finds it by its body.
  await page.getByRole('searchbox').fill('Hello, W');
  await page.locator('#list li:only-child').waitFor();
  await rows(page).first().click();
  await page.locator('pre').first().waitFor();
  const shown = () => page.locator('#detail').innerText();
  check((await shown()).includes('Bearer ***'), 'a masked header');
  check(!/s3cret|t0ken/.test(await page.content()), 'no secret is in the page');
  check((await shown()).includes('Hello, World!'), 'the body');

  // Secrets come with a click, and go with another.
  await page.getByRole('button', { name: 'Show secrets' }).click();
  await page.getByText('Bearer s3cret').waitFor();
  await page.getByRole('button', { name: 'Hide secrets' }).click();
  await page.getByText('Bearer s3cret').waitFor({ state: 'detached' });

  await page.getByRole('button', { name: 'Copy as curl' }).click();
  await said(page, 'Copied, with its secrets.');
  const command = await page.evaluate(() => navigator.clipboard.readText());
  check(command.startsWith('curl ') && command.includes('Bearer s3cret'), command);
  tell('curl', { command });

  // The webhook's signature: right, and with a wrong secret.
  await page.getByRole('button', { name: 'Check signature' }).click();
  check(await page.getByLabel('Signed by').inputValue() === 'github', 'the provider is known by the header');
  await page.getByLabel('Secret of the endpoint').fill("It's a Secret to Everybody");
  await page.getByRole('button', { name: 'Check', exact: true }).click();
  await page.locator('#verdict .good').waitFor();
  await shot(page, 'inspect-signature');
  await page.getByLabel('Secret of the endpoint').fill('another');
  await page.getByRole('button', { name: 'Check', exact: true }).click();
  await page.locator('#verdict .bad').waitFor();
  await page.getByRole('button', { name: 'Close' }).click();

  await page.getByRole('searchbox').fill('');
  await page.getByText('/no-such-page').waitFor();
  await page.getByRole('button', { name: 'Replay', exact: true }).click();
  await page.locator('.head').getByText('replay of 1').waitFor();
  check(page.url().endsWith('#/4'), page.url());

  // An answer that comes late covers nothing that was chosen since.
  let release;
  const held = new Promise((resolve) => { release = resolve; });
  await page.route('**/api/requests/2', async (route) => {
    await held;
    await route.continue();
  });
  const late = page.waitForResponse('**/api/requests/2');
  const choose = (id) => page.evaluate((at) => { location.hash = at; }, `#/${id}`);
  const asked = page.waitForRequest('**/api/requests/2');
  await choose(2);
  await asked;
  await choose(4);
  await page.locator('.head').getByText('replay of 1').waitFor();
  release();
  await (await late).finished();
  await page.evaluate(() => new Promise((resolve) => { requestAnimationFrame(() => requestAnimationFrame(resolve)); }));
  check(await page.locator('.head').getByText('replay of 1').isVisible(), 'an older answer covers a newer one');
  await page.unroute('**/api/requests/2');

  // Edited: what was left masked is sent as it was.
  await page.goto(`${url}#/1`);
  await page.locator('.head').getByText('replay of').waitFor({ state: 'detached' });
  await page.getByRole('button', { name: 'Edit and replay' }).click();
  await page.getByLabel('Path', { exact: true }).fill('/upload?token=***&edited=1');
  await page.getByLabel('Body', { exact: true }).fill('changed');
  await shot(page, 'inspect-edit');
  await page.getByRole('button', { name: 'Send', exact: true }).click();
  await page.locator('.head').getByText('&edited=1').waitFor();
  await page.locator('pre').getByText('changed').waitFor();
  await page.getByRole('button', { name: 'Show secrets' }).click();
  await page.locator('.head').getByText('/upload?token=t0ken&edited=1').waitFor();
  await page.getByText('Bearer s3cret').waitFor();
}, {});

for (const [look, options] of Object.entries({
  'desk-light': {}, 'desk-dark': { dark: true },
  'phone-light': { width: 360, height: 740 }, 'phone-dark': { width: 360, height: 740, dark: true },
})) {
  await house(async (page) => {
    await page.goto(url);
    await page.getByText('/no-such-page').waitFor();
    await fits(page, `inspect-list-${look}`);
    // A keyboard alone: to the search, to the list, down, and into the request.
    await page.keyboard.press('/');
    check(await page.evaluate(() => document.activeElement.id) === 'search', 'a slash searches');
    await page.keyboard.press('Tab');
    await page.keyboard.press('Tab');
    if (options.width) await page.keyboard.press('Enter');
    else await page.keyboard.press('ArrowDown');
    await page.locator('#detail .head').waitFor();
    await fits(page, `inspect-detail-${look}`);
    if (options.width) {
      await page.getByRole('link', { name: 'All requests' }).click();
      await page.locator('#list').waitFor();
    }
  }, options);
}
tell('done');

async function fits(page, name) {
  const wide = await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
  check(wide <= 0, `${name} is ${wide} px wider than the screen`);
  const nameless = await page.evaluate(() => [...document.querySelectorAll('button, a, input, select, textarea')]
    .filter((one) => one.checkVisibility() && !(one.innerText?.trim() || one.labels?.length || one.ariaLabel)).map((one) => one.outerHTML));
  check(nameless.length === 0, `${name}: without a name: ${nameless}`);
  await shot(page, name);
}
