// A visitor signs in before a tunnel of two relays behind one name: whichever the name leads to at each step.

import { check, tell } from './house.mjs';
import { browsers } from './visitor_browser.mjs';

const [site, here, elsewhere] = process.argv.slice(2);

/** Steps in the order in which a browser comes to them: the page, the sign-in's host, back from the provider, the ticket. */
const steps = ['/head', '/.mytunnel/sign-in', '/.mytunnel/callback', '/.mytunnel/ticket'];

for (const astray of [[], [0], [1], [2], [3], [0, 1, 2, 3]]) {
  const paths = astray.map((step) => steps[step]);
  let entered = false;
  const Browser = browsers(site, (url) => (url.port === here && !entered && paths.includes(url.pathname) ? elsewhere : url.port));
  const ann = new Browser();
  await ann.enter('ann@acme.example');
  entered = true;
  const seen = await ann.go(`${site}/head`);
  check(seen.status === 200 && seen.body.includes('ann@acme.example'), `steps ${astray} at the other relay: ${seen.status} ${seen.body}`);
}
tell('done');
