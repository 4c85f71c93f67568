// Somebody connects another sign-in, comes in by it, with the second factor once there is one, and disconnects it; somebody
// else comes in by an invitation, and no other.

import { check, house, invite, shot, signIn, tell, totp, visit } from './house.mjs';

const [url] = process.argv.slice(2);
const NAME = 'Example ID';

/** Types an address at the provider and agrees to everything. */
async function beThere(page, email) {
  await page.getByPlaceholder('Enter any login').fill(email);
  await page.getByPlaceholder('and password').fill('any');
  await page.getByRole('button', { name: 'Sign-in' }).click();
  await page.getByRole('button', { name: 'Continue' }).click();
}

const overview = (page) => page.getByRole('heading', { name: 'Overview', level: 1 }).waitFor();
const byProvider = (page) => page.getByRole('link', { name: `Sign in with ${NAME}` }).click();

async function leave(page) {
  await page.getByRole('button', { name: 'Sign out' }).click();
  await page.getByRole('heading', { name: 'Sign in', level: 1 }).waitFor();
}

const links = [];
await house(async (page) => {
  await signIn(page, url);
  await overview(page);
  await visit(page, 'people');
  links.push(await invite(page, 'ann@example.org'), await invite(page, 'bob@example.org'));

  await visit(page, 'security');
  await page.getByRole('button', { name: `Connect ${NAME}` }).click();
  await beThere(page, 'owner@example.com');
  await page.getByText(`${NAME} is connected`).waitFor();
  await page.getByRole('cell', { name: 'owner@example.com' }).waitFor();
  await shot(page, 'connected');
  tell('connected');

  await leave(page);
  await byProvider(page);
  await overview(page);
  check(!/signed_in|code=|state=/.test(page.url()), `something stays in the address: ${page.url()}`);

  // The provider let them in and asked for nothing: for this it has to say when they proved who they are.
  await visit(page, 'security');
  await page.getByRole('button', { name: 'Set it up' }).click();
  await page.getByRole('heading', { name: 'Is it you?' }).waitFor();
  await page.getByRole('button', { name: `Prove it with ${NAME}` }).click();
  await overview(page);
  await visit(page, 'security');
  await page.getByRole('button', { name: 'Set it up' }).click();
  await page.getByText('I cannot scan it').click();
  const secret = await page.getByLabel('secret', { exact: true }).innerText();
  const proven = Date.now();
  await page.getByLabel('Code', { exact: true }).fill(totp(secret, proven));
  await page.getByRole('button', { name: 'Turn it on' }).click();
  await page.getByRole('button', { name: 'I have saved it' }).click();
  await leave(page);
  await byProvider(page);
  const digits = page.getByLabel('Code', { exact: true });
  await digits.waitFor();
  check(!page.url().includes('challenge'), 'the challenge stays in the address');
  await page.goto(`${url}/#/keys`);
  await page.reload();
  await page.getByRole('heading', { name: 'Sign in', level: 1 }).waitFor();
  await byProvider(page);
  await digits.fill(totp(secret, proven + 30_000));
  await page.getByRole('button', { name: 'Go on' }).click();
  await page.getByRole('button', { name: 'Sign out' }).waitFor();
  tell('second');

  await visit(page, 'security');
  await page.getByRole('button', { name: `Disconnect ${NAME}` }).click();
  await page.getByRole('button', { name: 'Disconnect it' }).click();
  await page.getByText(`${NAME} is disconnected.`).waitFor();
  await leave(page);
  await byProvider(page);
  await page.getByText('There is an account with your address.').waitFor();
  await shot(page, 'disconnected');
});

const [ann, bob] = links;
await house(async (page) => {
  await page.goto(bob);
  await page.getByRole('button', { name: `Go on with ${NAME}` }).click();
  await beThere(page, 'eve@example.org');
  await page.getByText('The invitation is for another address').waitFor();
});
await house(async (page) => {
  await page.goto(bob);
  const go = page.getByRole('button', { name: `Go on with ${NAME}` });
  await go.waitFor();
  const [door, inside] = await Promise.all([page.locator('.door').boundingBox(), go.boundingBox()]);
  check(inside.x + inside.width <= door.x + door.width, 'a button is wider than its door');
  await shot(page, 'invitation');
});
await house(async (page) => {
  await page.goto(ann);
  await page.getByRole('button', { name: `Go on with ${NAME}` }).click();
  await beThere(page, 'ann@example.org');
  await overview(page);
  // A member sees every key, and revokes only their own.
  await visit(page, 'keys');
  await page.locator('.root', { hasText: 'demo' }).waitFor();
  check(await page.getByRole('button', { name: /^Revoke/ }).count() === 0, 'a member is offered to revoke what is not theirs');
  check(await page.getByRole('link', { name: 'People', exact: true }).count() === 0, 'a member is shown people');
  await shot(page, 'member-keys');
});
tell('done');
