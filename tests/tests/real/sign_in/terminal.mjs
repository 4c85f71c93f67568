// The browser's part of a sign-in for a terminal: the address that the terminal shows, and the code that goes back.

import { house, shot, signIn, tell, visit } from './house.mjs';

const [url, address] = process.argv.slice(2);

await house(async (page) => {
  await signIn(page, url);
  await page.getByRole('heading', { name: 'Overview', level: 1 }).waitFor();
  await visit(page, 'security');
  await page.getByRole('button', { name: 'Connect Example ID' }).click();
  await page.getByPlaceholder('Enter any login').fill('owner@example.com');
  await page.getByPlaceholder('and password').fill('any');
  await page.getByRole('button', { name: 'Sign-in' }).click();
  await page.getByRole('button', { name: 'Continue' }).click();
  await page.getByText('Example ID is connected').waitFor();
  await page.goto(address);
  await page.getByRole('heading', { name: 'Almost signed in' }).waitFor();
  await shot(page, 'terminal-code');
  tell('code', { code: await page.locator('code').first().innerText() });
});
