// The second factor: proven before it counts, asked for at the next sign-in, each code and each recovery code once.

import { becomeOwner, check, house, shot, signIn, tell, totp, visit } from './house.mjs';

const [url, code] = process.argv.slice(2);

await house(async (page) => {
  await becomeOwner(page, url, code);
  await visit(page, 'security');
  await page.getByRole('button', { name: 'Set it up' }).click();
  const picture = page.getByAltText('The secret for your authenticator app');
  await picture.waitFor();
  await page.waitForFunction(() => document.querySelector('.qr').naturalWidth > 100);
  await shot(page, 'mfa-qr');
  await page.getByText('I cannot scan it').click();
  const secret = await page.getByLabel('secret', { exact: true }).innerText();
  check(secret.replace(/\s/g, '').length >= 32, `a short secret: ${secret}`);

  const proven = Date.now();
  const wrong = String((Number(totp(secret, proven)) + 1) % 1_000_000).padStart(6, '0');
  await page.getByLabel('Code', { exact: true }).fill(wrong);
  await page.getByRole('button', { name: 'Turn it on' }).click();
  await page.getByRole('dialog').locator('.notice.bad').waitFor();
  await page.getByLabel('Code', { exact: true }).fill(totp(secret, proven));
  await page.getByRole('button', { name: 'Turn it on' }).click();
  const codes = page.getByRole('list', { name: 'Recovery codes' }).getByRole('listitem');
  await codes.first().waitFor();
  check(await codes.count() === 10, `${await codes.count()} recovery codes`);
  const [recovery] = await codes.allInnerTexts();
  await shot(page, 'mfa-codes');
  await page.getByRole('button', { name: 'I have saved it' }).click();
  await page.getByText('10 codes left').waitFor();
  check(!(await page.content()).includes(recovery), 'a recovery code is still in the page');
  await shot(page, 'mfa-on');

  await leave(page);
  await signIn(page, url);
  const digits = page.getByLabel('Code', { exact: true });
  await digits.waitFor();
  await shot(page, 'mfa-sign-in');
  await digits.fill(totp(secret, proven));
  await page.getByRole('button', { name: 'Go on' }).click();
  await page.getByRole('alert').locator('.notice.bad').waitFor();
  // The step that proved the enrolment is used up; the next one is good already, and still is a minute from now.
  await digits.fill(totp(secret, proven + 30_000));
  await page.getByRole('button', { name: 'Go on' }).click();
  await page.getByRole('heading', { name: 'Overview', level: 1 }).waitFor();

  await leave(page);
  await signIn(page, url);
  await page.getByRole('button', { name: 'Use a recovery code' }).click();
  await page.getByLabel('Recovery code').fill(recovery);
  await page.getByRole('button', { name: 'Go on' }).click();
  await page.getByRole('heading', { name: 'Overview', level: 1 }).waitFor();
  await visit(page, 'security');
  await page.getByText('9 codes left').waitFor();
});
tell('done');

async function leave(page) {
  await page.getByRole('button', { name: 'Sign out' }).click();
  await page.getByRole('heading', { name: 'Sign in', level: 1 }).waitFor();
  await page.reload();
  await page.getByRole('heading', { name: 'Sign in', level: 1 }).waitFor();
}
