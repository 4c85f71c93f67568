// From the first owner to a cascade revoke, as a person does it.

import { becomeOwner, check, house, shot, tell, visit } from './house.mjs';

const [url, code] = process.argv.slice(2);
const NAME = '<img src=x onerror=alert(1)>';

await house(async (page) => {
  await page.goto(url);
  await page.getByRole('heading', { name: 'Become the owner' }).waitFor();
  await shot(page, 'setup');
  await becomeOwner(page, url, code);
  check(!page.url().includes(code), 'the setup code stays in the address');

  await page.getByRole('link', { name: 'Projects', exact: true }).click();
  await page.getByRole('button', { name: 'New project' }).click();
  await page.getByLabel('Name').fill(NAME);
  await page.keyboard.press('Enter');
  const key = page.getByLabel('master key', { exact: true });
  const master = await key.innerText();
  check(/^mtk_master_/.test(master), master);
  for (let times = 0; times < 3; times += 1) await page.keyboard.press('Escape');
  check(await key.isVisible(), 'Escape throws the master key away');
  await page.getByRole('button', { name: 'Copy master key' }).click();
  await page.locator('#said').getByText('Copied.').waitFor();
  check(await page.evaluate(() => navigator.clipboard.readText()) === master, 'the key was not copied');
  await shot(page, 'master-key');
  await page.getByRole('button', { name: 'I have saved it' }).click();
  await page.getByRole('rowheader', { name: NAME }).waitFor();
  check(await page.locator('img').count() === 0, 'a name became markup');
  check(!(await page.content()).includes(master), 'the master key is still in the page');

  await visit(page, 'keys');
  const root = page.locator('.root', { hasText: NAME });
  await root.getByText('idle').waitFor();
  tell('made', { master });
  // Another process mints and shares now; the page hears of it by itself.
  await root.getByText('1 tunnel up').first().waitFor();
  if (await root.getByRole('button', { expanded: false }).count() > 0) await root.getByRole('button', { expanded: false }).click();
  await root.getByRole('row').nth(1).waitFor();
  await shot(page, 'keys-live');
  await visit(page, 'tunnels');
  await page.getByRole('row', { name: /preview/ }).getByText('up', { exact: true }).waitFor();
  await shot(page, 'tunnels-live');
  tell('live');

  await visit(page, 'keys');
  await root.getByRole('button', { name: `Revoke ${NAME}` }).click();
  await page.getByRole('dialog').getByText('1 tunnel of it is up').waitFor();
  await shot(page, 'revoke');
  await page.getByRole('button', { name: 'Revoke it and its children' }).click();
  const told = page.locator('.dialog-body').getByRole('status');
  await told.getByText(/confirmed within/).waitFor();
  await shot(page, 'revoked');
  tell('revoked', { text: await told.innerText() });
  await page.getByRole('button', { name: 'Done' }).click();
  await root.getByText('revoked').first().waitFor();

  await visit(page, 'audit');
  await page.getByRole('cell', { name: 'key.revoke' }).first().waitFor();
  await page.getByRole('button', { name: 'Verify the log' }).click();
  await page.getByRole('button', { name: 'Verify it now' }).click();
  await page.getByText(/All of \d+ rows hold/).waitFor();
  await shot(page, 'verified');
});
tell('done');
