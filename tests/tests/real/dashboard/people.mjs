// An owner invites, gives a role and removes, and proves who they are where the sign-in is old; long lists go on.

import { check, house, invite, shot, signIn, tell, visit } from './house.mjs';

const [url] = process.argv.slice(2);
const ANN = 'ann@example.org';
const PASSWORD = 'correct horse battery staple';

await house(async (page, context) => {
  await signIn(page, url);
  await page.getByRole('heading', { name: 'Overview', level: 1 }).waitFor();

  // The coordinator gives one tunnel at a time here, as it gives a thousand elsewhere.
  await page.route('**/api/v1/tunnels*', (route) => {
    const asked = new URL(route.request().url());
    asked.searchParams.set('limit', '1');
    return route.continue({ url: asked.href });
  });
  await visit(page, 'tunnels');
  await page.getByText('There are more than these 1.').waitFor();
  check(await page.getByRole('row').count() === 2, 'one tunnel was wanted');
  await page.getByRole('button', { name: 'Read more tunnels' }).click();
  await page.getByRole('row').nth(2).waitFor();
  await page.getByRole('button', { name: 'Read more tunnels' }).waitFor({ state: 'detached' });

  await visit(page, 'people');
  await invite(page, 'bob@example.org');
  await page.getByRole('button', { name: 'Withdraw the invitation of bob@example.org' }).click();
  await page.getByText('No invitation is open.').waitFor();
  const link = await invite(page, ANN);

  const other = await context.browser().newContext();
  const ann = await other.newPage();
  ann.setDefaultTimeout(20_000);
  await ann.goto(link);
  await ann.getByLabel('New password').fill(PASSWORD);
  await ann.getByRole('button', { name: 'Make my account' }).click();
  await ann.getByRole('heading', { name: 'Overview', level: 1 }).waitFor();
  check(!ann.url().includes('code='), 'the code stays in the address');
  check(await ann.getByRole('link', { name: 'People', exact: true }).count() === 0, 'a member is shown people');
  tell('joined');

  // The page hears of her, and asks for the password once the sign-in is too old; an hour does not pass here.
  let old = true;
  await page.route('**/api/v1/accounts/*', (route) => {
    if (!old) return route.continue();
    old = false;
    const error = { code: 'step_up_required', message: 'this needs a sign-in that is not older than ten minutes', help: 'Sign in again.' };
    return route.fulfill({ status: 401, contentType: 'application/json', body: JSON.stringify({ error }) });
  });
  const row = page.getByRole('row', { name: ANN });
  await row.getByText('member', { exact: true }).waitFor();
  await row.getByRole('button', { name: `Role of ${ANN}` }).click();
  await page.getByLabel('Role', { exact: true }).selectOption('owner');
  await page.getByRole('button', { name: 'Change it' }).click();
  await page.getByRole('heading', { name: 'Is it you?' }).waitFor();
  await shot(page, 'step-up');
  await page.getByLabel('Password', { exact: true }).fill('not the password');
  await page.getByRole('button', { name: 'Go on' }).click();
  await page.getByRole('alert').getByText(/wrong/).first().waitFor();
  await page.getByLabel('Password', { exact: true }).fill(PASSWORD);
  await page.getByRole('button', { name: 'Go on' }).click();
  await row.getByText('owner', { exact: true }).waitFor();
  await shot(page, 'people');

  await row.getByRole('button', { name: `Remove ${ANN}` }).click();
  await page.getByRole('button', { name: 'Remove the account' }).click();
  await row.waitFor({ state: 'detached' });
  await ann.reload();
  await ann.getByRole('heading', { name: 'Sign in', level: 1 }).waitFor();
  await other.close();
});
tell('done');
