// What the pages make of fixed parts, for the reader of the same texts in Rust.

import { readFileSync } from 'node:fs';

const [source] = process.argv.slice(2);
const token = await import(`data:text/javascript,${encodeURIComponent(readFileSync(`${source}/token.js`, 'utf8'))}`);
const seed = Uint8Array.from({ length: 32 }, (_, at) => at);
const parts = { serial: '00112233445566778899aabbccddeeff', root: 'ffeeddccbbaa99887766554433221100', project: 'proj_demo' };
for (const server of ['http://localhost:8080', 'https://tun.example#ca=00112233445566778899aabbccddeeff']) {
  console.log(JSON.stringify({ event: 'master', text: token.masterToken({ ...parts, seed, server }) }));
}
const made = await token.makeKey();
console.log(JSON.stringify({ event: 'key', seed: Buffer.from(made.seed).toString('hex'), public: made.publicKey }));
