// All of it without a pointer: every stop can be seen, dialogs keep the focus and give it back.

import { becomeOwner, check, house, tell } from './house.mjs';

const [url, code] = process.argv.slice(2);

await house(async (page) => {
  const focused = () => page.evaluate(() => {
    const element = document.activeElement;
    const style = getComputedStyle(element);
    const box = element.getBoundingClientRect();
    return {
      text: (element.getAttribute('aria-label') ?? element.labels?.[0]?.textContent ?? element.textContent).trim(),
      seen: style.outlineStyle !== 'none' && parseFloat(style.outlineWidth) > 0 && box.width > 0 && box.bottom > 0,
      inside: Boolean(element.closest('dialog')), tag: element.tagName,
    };
  });
  /** Tabs until something of that name has the focus. */
  const reach = async (name, key = 'Tab') => {
    for (let press = 0; press < 60; press += 1) {
      const now = await focused();
      if (now.text === name) {
        check(now.seen, `the focus on ${name} cannot be seen`);
        return;
      }
      await page.keyboard.press(key);
    }
    throw new Error(`${name} cannot be reached by ${key}`);
  };

  await becomeOwner(page, url, code);
  await page.reload();
  const heading = page.getByRole('heading', { level: 1 });
  await heading.waitFor();
  if (await heading.innerText() === 'Sign in') {
    await reach('E-mail');
    await page.keyboard.type('owner@example.com');
    await reach('Password');
    await page.keyboard.type('correct horse battery staple');
    await page.keyboard.press('Enter');
    await page.getByRole('heading', { name: 'Overview', level: 1 }).waitFor();
  }
  await page.evaluate(() => {
    document.activeElement.blur();
    getSelection().collapse(document.body, 0);
  });
  await page.keyboard.press('Tab');
  check((await focused()).text === 'Skip to the content', 'the first stop is not the skip link');
  await page.keyboard.press('Enter');
  check((await focused()).tag === 'MAIN', 'the skip link does not lead to the content');

  await reach('Projects', 'Shift+Tab');
  await page.keyboard.press('Enter');
  await page.getByRole('heading', { name: 'Projects', level: 1 }).waitFor();
  check((await focused()).text === 'Projects', 'a new page does not get the focus');
  await page.getByRole('button', { name: 'New project' }).waitFor();
  await reach('New project');
  await page.keyboard.press('Enter');
  check((await focused()).text === 'Name', 'a dialog does not begin at its first field');
  for (let press = 0; press < 8; press += 1) {
    await page.keyboard.press(press < 4 ? 'Tab' : 'Shift+Tab');
    check((await focused()).inside, 'the focus leaves the dialog');
  }
  await page.keyboard.press('Escape');
  await page.locator('dialog').waitFor({ state: 'detached' });
  check((await focused()).text === 'New project', 'the dialog does not give the focus back');
  await page.keyboard.press('Enter');
  await page.keyboard.type('by keys alone');
  await page.keyboard.press('Enter');
  await page.getByLabel('master key', { exact: true }).waitFor();
  await reach('I have saved it');
  await page.keyboard.press('Space');
  await page.getByRole('rowheader', { name: 'by keys alone' }).waitFor();

  await reach('Keys', 'Shift+Tab');
  await page.keyboard.press('Enter');
  await page.getByRole('heading', { name: 'Keys', level: 1 }).waitFor();
  await page.locator('.root').first().waitFor();
  await reach('Revoke by keys alone');
  await page.keyboard.press('Enter');
  check((await focused()).text === 'Cancel', 'a dangerous dialog does not begin at its way out');
  await reach('Revoke it and its children');
  await page.keyboard.press('Enter');
  await page.locator('.dialog-body').getByText(/Revoked 1 key/).waitFor();
  const said = await page.locator('#said').innerText();
  check(/Revoked 1 key/.test(said), `those who hear the page heard: ${said}`);
  check((await focused()).text === 'Done', 'what was done does not get the focus');
  await page.keyboard.press('Enter');
  // Gone from the page: from who asks by its role it is gone as soon as it is closed, a moment before it gives the focus back.
  await page.locator('dialog').waitFor({ state: 'detached' });
  check(!(await focused()).inside, 'the focus stays in a dialog that is gone');
});
tell('done');
