// Gates set and taken away on the page hold for the next visitor; a tunnel that is closed there ends; the plan decides.

import { check, house, shot, signIn, tell, visit } from './house.mjs';

const [url, site] = process.argv.slice(2);
const USER = { username: 'ann', password: 'correct: hörse' };

await house(async (page, context) => {
  /** What a visitor of the tunnel gets. */
  const visitor = async (httpCredentials, extraHTTPHeaders) => {
    const other = await context.browser().newContext({ httpCredentials, extraHTTPHeaders });
    const tab = await other.newPage();
    // A browser that has a password to give, and is asked again, gives up.
    const status = await tab.goto(site).then((answer) => answer.status(), (error) => {
      if (error.message.includes('ERR_INVALID_AUTH_CREDENTIALS')) return 401;
      throw error;
    });
    await other.close();
    tell('answered', { status });
    return status;
  };
  const row = page.getByRole('row', { name: /preview/ });
  const gate = (name) => row.getByRole('button', { name: `${name} gate of preview` }).click();
  /** What the dialog says at its end. */
  const done = async (line, end = 'Done') => {
    const told = page.locator('.dialog-body').getByRole('status');
    await told.getByText(line).waitFor();
    await told.getByText('1 of 1 relay confirmed within').waitFor();
    await page.getByRole('button', { name: end }).click();
  };

  await signIn(page, url);
  await page.getByRole('heading', { name: 'Overview', level: 1 }).waitFor();
  await visit(page, 'plan');
  await page.getByText('pro', { exact: true }).waitFor();
  await visit(page, 'tunnels');
  await row.getByText('open to all').waitFor();
  check(await visitor() === 200, 'it is not open at first');

  await gate('Password');
  await page.getByLabel('Name', { exact: true }).fill(USER.username);
  await page.getByLabel('Password', { exact: true }).fill(USER.password);
  await shot(page, 'gate-password');
  await page.getByRole('button', { name: 'Set the password' }).click();
  await done('preview asks for the password.');
  await row.getByText('password', { exact: true }).waitFor();
  await shot(page, 'gate-set');
  check(await visitor() === 401, 'the password is not asked for');
  check(await visitor(USER) === 200, 'the password does not open it');
  check(await visitor({ ...USER, password: 'wrong' }) === 401, 'another password opens it');

  await gate('Sign-in');
  await page.getByLabel('Domains').fill('acme.example, @other.example');
  await page.getByLabel('Addresses').fill('ann@third.example');
  await shot(page, 'gate-sign-in');
  await page.getByRole('button', { name: 'Set the sign-in' }).click();
  await done('preview asks for a sign-in.');
  await row.getByText('sign-in', { exact: true }).waitFor();
  await gate('Sign-in');
  check(await page.getByLabel('Domains').inputValue() === 'acme.example, other.example', 'the domains are not as they were set');
  check(await page.getByLabel('Addresses').inputValue() === 'ann@third.example', 'the addresses are not as they were set');
  await page.getByRole('button', { name: 'Remove the sign-in' }).click();
  await done('preview asks for no sign-in any more.');
  check(await visitor(USER) === 200, 'the sign-in is still asked for');

  const more = async (name) => {
    await row.getByRole('button', { name: 'More gates of preview' }).click();
    await page.getByRole('button', { name, exact: true }).click();
  };
  await more('PIN');
  await shot(page, 'gate-pin');
  await page.getByRole('button', { name: 'Set', exact: true }).click();
  await page.getByText('Save it now: it is shown once.').waitFor();
  await shot(page, 'gate-pin-made');
  for (let times = 0; times < 3; times += 1) await page.keyboard.press('Escape');
  await done('preview asks for a PIN.', 'I have saved it');
  await row.getByText('PIN', { exact: true }).waitFor();
  check(await visitor(USER) === 401, 'the PIN is not asked for');
  await more('PIN');
  await page.getByRole('button', { name: 'Remove it' }).click();
  await page.getByRole('button', { name: 'Remove', exact: true }).click();
  await done('preview asks for no PIN any more.');
  await more('Addresses');
  await page.getByLabel('Let in').fill('192.0.2.0/24, 2001:db8::/32');
  await page.getByRole('button', { name: 'Set', exact: true }).click();
  await done('preview looks where visitors come from.');
  await row.getByText('addresses', { exact: true }).waitFor();
  check(await visitor(USER) === 403, 'addresses are not looked at');
  await more('Addresses');
  check(await page.getByLabel('Let in').inputValue() === '192.0.2.0/24, 2001:db8::/32', 'the addresses are not as they were set');
  await page.getByRole('button', { name: 'Remove it' }).click();
  await page.getByRole('button', { name: 'Remove', exact: true }).click();
  await done('preview lets visitors in from everywhere.');

  // Who is kept out is kept out also where everybody else comes from.
  await more('Addresses');
  await page.getByLabel('Keep out').fill('127.0.0.0/8, 2001:db8::/32');
  await page.getByRole('button', { name: 'Set', exact: true }).click();
  await done('preview looks where visitors come from.');
  check(await visitor(USER) === 403, 'who is to be kept out comes in');
  await more('Addresses');
  check(await page.getByLabel('Keep out').inputValue() === '127.0.0.0/8, 2001:db8::/32', 'who is kept out is not as it was set');
  await page.getByLabel('Keep out').fill('192.0.2.0/24');
  await page.getByRole('button', { name: 'Change', exact: true }).click();
  await done('preview looks where visitors come from.');
  check(await visitor(USER) === 200, 'others are kept out, too');
  await more('Addresses');
  await page.getByRole('button', { name: 'Remove it' }).click();
  await page.getByRole('button', { name: 'Remove', exact: true }).click();
  await done('preview lets visitors in from everywhere.');

  const TOKEN = 'sixteen-letters-or-more';
  const program = (token) => visitor(undefined, { authorization: `Bearer ${token}` });
  check(await program(TOKEN) === 401, 'a token is taken that nobody has set');
  await more('Token');
  await page.getByLabel('Token', { exact: true }).fill(TOKEN);
  await page.getByRole('button', { name: 'Set', exact: true }).click();
  await done('preview lets programs in by the token.');
  check(await program(TOKEN) === 200, 'the token does not open it');
  check(await program(`${TOKEN}s`) === 401, 'another token opens it');
  check(await visitor() === 401, 'the password is not asked for beside a token');
  check(await visitor(USER) === 200, 'the password does not open it beside a token');
  await more('Token');
  await page.getByRole('button', { name: 'Remove it' }).click();
  await page.getByRole('button', { name: 'Remove', exact: true }).click();
  await done('preview lets no token in any more.');
  check(await program(TOKEN) === 401, 'a token that was taken away opens it');

  await more('End');
  await page.getByRole('button', { name: 'Set', exact: true }).click();
  await done('preview has an end.');
  await row.getByRole('button', { name: 'More gates of preview' }).click();
  await page.getByText('It ends at').waitFor();
  await page.getByRole('button', { name: 'End', exact: true }).click();
  await page.getByRole('button', { name: 'Remove it' }).click();
  await page.getByRole('button', { name: 'Remove', exact: true }).click();
  await done('preview has no end any more.');
  check(await visitor(USER) === 200, 'it ended all the same');

  await row.getByRole('button', { name: 'More gates of preview' }).click();
  await shot(page, 'gate-more');
  await page.getByRole('button', { name: 'Done' }).click();

  tell('gated');
  // The plan becomes free now; the page hears of it by itself.
  await visit(page, 'plan');
  await page.getByText('free', { exact: true }).waitFor();
  await visit(page, 'tunnels');
  check(await visitor() === 401, 'a password that was set goes with the plan');
  await gate('Password');
  await shot(page, 'gate-change');
  await page.getByLabel('Name', { exact: true }).fill(USER.username);
  await page.getByLabel('Password', { exact: true }).fill('another long one');
  await page.getByRole('button', { name: 'Change the password' }).click();
  await page.getByRole('alert').getByText(/plan/).first().waitFor();
  await shot(page, 'gate-upgrade');
  await page.getByRole('button', { name: 'Remove the password' }).click();
  await done('preview has no password any more.');
  await row.getByText('open to all').waitFor();
  check(await visitor() === 200, 'the password is still asked for');

  await row.getByRole('button', { name: 'Close preview' }).click();
  await page.getByRole('button', { name: 'Close it' }).click();
  await done('Closed preview.');
  await row.getByText('away', { exact: true }).waitFor();
});
tell('done');
