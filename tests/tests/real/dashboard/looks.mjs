// Every page on a desk and on a phone, light and dark: nothing wider than the screen, nothing without a name.

import { becomeOwner, check, house, shot, signIn, tell, visit } from './house.mjs';

const [url, code] = process.argv.slice(2);
const PAGES = ['', 'tunnels', 'projects', 'keys', 'usage', 'audit', 'devices', 'security', 'people', 'plan'];

let first = true;
for (const [look, options] of Object.entries({
  'desk-light': {}, 'desk-dark': { dark: true },
  'phone-light': { width: 360, height: 740 }, 'phone-dark': { width: 360, height: 740, dark: true },
})) {
  await house(async (page) => {
    if (first && code) await becomeOwner(page, url, code);
    else {
      await page.goto(url);
      await page.getByRole('heading', { name: 'Sign in' }).waitFor();
      await fits(page, 'sign-in', look);
      await signIn(page, url);
      await page.getByRole('heading', { name: 'Overview', level: 1 }).waitFor();
    }
    first = false;
    const ground = await page.evaluate(() => getComputedStyle(document.body).backgroundColor);
    const light = Math.max(...ground.match(/\d+/g).map(Number)) > 127;
    check(light !== Boolean(options.dark), `${look}: the ground is ${ground}`);
    for (const name of PAGES) {
      await visit(page, name);
      await fits(page, name || 'overview', look);
    }
    await visit(page, 'projects');
    await page.getByRole('button', { name: 'New project' }).click();
    await fits(page, 'dialog', look);
    await page.keyboard.press('Escape');
    if (options.width) {
      await page.getByRole('button', { name: 'Menu' }).click();
      await page.getByRole('link', { name: 'Audit', exact: true }).waitFor();
      await fits(page, 'menu', look);
    }
  }, options);
}
tell('done');

async function fits(page, name, look) {
  const wide = await page.evaluate(() => [...document.querySelectorAll('body *')]
    .filter((element) => element.getBoundingClientRect().right > document.documentElement.clientWidth + 1 && !element.closest('.hidden, thead, #said, .table, .skip'))
    .map((element) => `${element.tagName}.${element.getAttribute('class')}`));
  check(wide.length === 0, `${look} ${name}: wider than the screen: ${wide.slice(0, 5)}`);
  const scrolls = await page.evaluate(() => document.documentElement.scrollWidth > document.documentElement.clientWidth);
  check(!scrolls, `${look} ${name}: it scrolls sideways`);
  const nameless = await page.evaluate(() => [...document.querySelectorAll('button, a[href], input:not([type=hidden]), select')]
    .filter((element) => !(element.textContent.trim() || element.getAttribute('aria-label') || element.labels?.length)).map((element) => element.outerHTML));
  check(nameless.length === 0, `${look} ${name}: without a name: ${nameless}`);
  await shot(page, `${look}-${name}`);
}
