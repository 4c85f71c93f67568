// A browser of which nothing is needed but its cookies; every name leads to this machine.

import { request } from 'node:http';
import { check } from './house.mjs';

/** Browsers that visit a site; `portOf` says which relay a name leads them to. */
export function browsers(site, portOf = (url) => url.port) {
  const { host } = new URL(site);
  return class Browser {
    cookies = new Map();

    async go(address, { method = 'GET', headers = {}, body } = {}) {
      const url = new URL(address);
      const jar = this.jar(url.host);
      const cookie = [...jar].map(([name, value]) => `${name}=${value}`).join('; ');
      const all = { host: url.host, accept: 'text/html', ...(cookie && { cookie }), ...headers };
      if (body) Object.assign(all, { 'content-type': 'application/x-www-form-urlencoded', 'content-length': Buffer.byteLength(body) });
      const answer = await new Promise((resolve, reject) => {
        const sent = request({ host: '127.0.0.1', port: portOf(url), path: url.pathname + url.search, method, headers: all }, (response) => {
          const parts = [];
          response.on('data', (part) => parts.push(part));
          response.on('end', () => resolve({ response, body: Buffer.concat(parts).toString() }));
        });
        sent.on('error', reject);
        sent.end(body);
      });
      for (const line of answer.response.headers['set-cookie'] ?? []) {
        const [, name, value] = /^([^=]+)=([^;]*)/.exec(line);
        if (value === '' || /expires=Thu, 01 Jan 1970|max-age=0/i.test(line)) jar.delete(name);
        else jar.set(name, value);
      }
      const to = answer.response.headers.location;
      return { status: answer.response.statusCode, error: answer.response.headers['x-mytunnel-error'], to: to && new URL(to, address).href, body: answer.body };
    }

    jar(of) {
      if (!this.cookies.has(of)) this.cookies.set(of, new Map());
      return this.cookies.get(of);
    }

    /** Follows the way up to an address that `until` names. */
    async follow(at, email, until) {
      for (let step = 0; step < 20; step += 1) {
        if (until(at)) return at;
        const answer = await this.go(at);
        if (answer.to) at = answer.to;
        else {
          const prompt = /name="prompt" value="(\w+)"/.exec(answer.body);
          check(prompt, `no way on from ${at}: ${answer.status} ${answer.body}`);
          at = (await this.go(at, { method: 'POST', body: `prompt=${prompt[1]}&login=${encodeURIComponent(email)}&password=any` })).to;
        }
      }
      throw new Error(`round in circles: ${at}`);
    }

    callback = (email, from = `${site}/head`) => this.follow(from, email, (at) => at.includes('/.mytunnel/callback'));
    ticket = (email, from) => this.follow(from ?? `${site}/head`, email, (at) => at.includes('/.mytunnel/ticket'));

    async enter(email) {
      const ticket = await this.ticket(email);
      const entered = await this.go(ticket);
      check(entered.status === 302 && entered.to === `${site}/head`, `${entered.status} ${entered.to}`);
      return ticket;
    }

    get session() {
      return this.jar(host).get('mtk_gate');
    }
  };
}
