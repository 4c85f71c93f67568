// An OpenID provider that is not ours: `oidc-provider`. Whoever types an address there is the one with that address.

import { createServer } from 'node:http';
import Provider from 'oidc-provider';

const [redirect] = process.argv.slice(2);
let provider;
const server = createServer((request, response) => provider.callback()(request, response));
await new Promise((up) => server.listen(0, '127.0.0.1', up));
const issuer = `http://127.0.0.1:${server.address().port}`;
provider = new Provider(issuer, {
  clients: [{ client_id: 'mytunnel', client_secret: 'a secret', redirect_uris: [redirect] }],
  claims: { openid: ['sub'], email: ['email', 'email_verified'] },
  findAccount: (_, id) => ({
    accountId: id, claims: () => ({ sub: id, email: id, email_verified: !id.startsWith('unproven') }),
  }),
  features: { devInteractions: { enabled: true } },
  pkce: { required: () => true },
});
console.log(JSON.stringify({ event: 'listening', issuer }));
