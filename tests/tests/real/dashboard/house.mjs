// A browser that notices whatever a page should not do.

import { createHmac } from 'node:crypto';
import { mkdirSync } from 'node:fs';
import { chromium } from 'playwright-core';

const PASSWORD = 'correct horse battery staple';
const shots = process.env.MYTUNNEL_TEST_SCREENSHOTS;

/** Opens a browser, runs `work` with a page, and fails if the page logged an error or broke its policy. */
export async function house(work, { width = 1200, height = 800, dark = false } = {}) {
  const browser = await chromium.launch({
    executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium',
    args: ['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking', '--disable-component-update', '--disable-sync'],
  });
  const faults = [];
  try {
    const context = await browser.newContext({
      viewport: { width, height }, colorScheme: dark ? 'dark' : 'light', reducedMotion: 'reduce',
      permissions: ['clipboard-read', 'clipboard-write'], acceptDownloads: true,
    });
    const page = await context.newPage();
    page.setDefaultTimeout(20_000);
    page.on('pageerror', (error) => faults.push(`error: ${error.message}`));
    page.on('dialog', (dialog) => {
      faults.push(`a dialog of the browser: ${dialog.message()}`);
      dialog.dismiss();
    });
    page.on('console', (message) => {
      // The browser logs each answer that is a failure; which of them may be, the tests say.
      const expected = /Failed to load resource.*(400|401|402|403|404|429)/.test(message.text());
      // Nor are the faults of other pages on the way ours, such as a provider's.
      const elsewhere = /^https?:\/\/(?!localhost[:/])/.test(message.location().url);
      if (message.type() === 'error' && !expected && !elsewhere) faults.push(`console: ${message.text()}`);
    });
    await page.addInitScript(() => document.addEventListener('securitypolicyviolation',
      (event) => console.error(`policy: ${event.violatedDirective} ${event.blockedURI}`)));
    await work(page, context);
  } finally {
    await browser.close();
  }
  if (faults.length > 0) throw new Error(faults.join('\n'));
}

/** One line of JSON for the test that runs this. */
export function tell(event, more = {}) {
  console.log(JSON.stringify({ event, ...more }));
}

export function check(fact, what) {
  if (!fact) throw new Error(what);
}

/** Waits until the browser has put away so many cookies for an address: it does that some time after a script has set them. */
export async function stored(context, site, chosen, count) {
  const until = Date.now() + 20_000;
  let held = [];
  while (held.length < count && Date.now() < until) {
    held = (await context.cookies(site)).filter((cookie) => chosen(cookie.name));
  }
  check(held.length >= count, `the browser has put away ${held.length} cookies of ${count}`);
}

export async function becomeOwner(page, url, code) {
  await page.goto(`${url}/#/setup?code=${code}`);
  await page.getByLabel('E-mail').fill('owner@example.com');
  await page.getByLabel('New password').fill(PASSWORD);
  await page.getByRole('button', { name: 'Become the owner' }).click();
  await page.getByRole('heading', { name: 'Overview', level: 1 }).waitFor();
}

export async function signIn(page, url) {
  await page.goto(url);
  await page.getByLabel('E-mail').fill('owner@example.com');
  await page.getByLabel('Password', { exact: true }).fill(PASSWORD);
  await page.getByRole('button', { name: 'Sign in', exact: true }).click();
}

/** Invites somebody on the page of people; answers the link that they are sent. */
export async function invite(page, email) {
  await page.getByRole('button', { name: 'Invite somebody' }).click();
  await page.getByLabel('E-mail').fill(email);
  await page.getByRole('button', { name: 'Make the invitation' }).click();
  const link = await page.getByLabel('invitation', { exact: true }).innerText();
  await page.getByRole('button', { name: 'I have saved it' }).click();
  return link;
}

/** Goes to a page by its address and waits until it shows what it read; the test hears that it goes on. */
export async function visit(page, name) {
  await page.evaluate((hash) => {
    location.hash = hash;
  }, `#/${name}`);
  await page.waitForFunction((hash) => location.hash === hash && document.querySelector('.page[data-ready], .page .notice'), `#/${name}`);
  tell('visited', { name });
}

export async function shot(page, name) {
  if (!shots) return;
  mkdirSync(shots, { recursive: true });
  await page.screenshot({ path: `${shots}/${name}.png`, fullPage: true });
}

/** The six digits of RFC 6238 for a secret in base32. */
export function totp(secret, at = Date.now()) {
  const alphabet = 'ABCDEFGHIJKLMNOPQRSTUVWXYZ234567';
  const bits = [...secret.replace(/[\s=]/g, '')].map((letter) => alphabet.indexOf(letter).toString(2).padStart(5, '0')).join('');
  const key = Buffer.from(bits.match(/.{8}/g).map((byte) => parseInt(byte, 2)));
  const step = Buffer.alloc(8);
  step.writeBigUInt64BE(BigInt(Math.floor(at / 30_000)));
  const digest = createHmac('sha1', key).update(step).digest();
  const offset = digest[19] & 15;
  return String((digest.readUInt32BE(offset) & 0x7fffffff) % 1_000_000).padStart(6, '0');
}
