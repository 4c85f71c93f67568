// Agents that know the tools of tunnel-mcp: its names and fields, by every tool that there is. Each answer is held against
// what that server's own has.

import { readFileSync } from 'node:fs';
import { agent, file, hear } from './agent.mjs';
import { check, tell } from './house.mjs';

const [program, hostHome, guestHome] = process.argv.slice(2);
const more = ['--compat', 'tunnel-mcp'];
const known = JSON.parse(readFileSync(new URL('tunnel_mcp.json', import.meta.url), 'utf8'));
const unseen = new Set();
(function note(shape, place) {
  if (typeof shape === 'string') unseen.add(place);
  else Object.entries(shape).forEach(([key, part]) => note(part, `${place}.${key}`));
})(known, 'known');

/** What an answer lacks, by name. What of the shape was there is seen. */
function lacks(value, shape, place) {
  if (typeof shape === 'string') {
    unseen.delete(place);
    return typeof value === shape ? [] : [`${place} is ${typeof value}`];
  }
  if (Array.isArray(shape)) {
    if (!Array.isArray(value)) return [`${place} is no list`];
    return value.flatMap((item) => lacks(item, shape[0], `${place}.0`));
  }
  return Object.entries(shape).flatMap(([key, part]) => (
    value !== null && typeof value === 'object' && key in value ? lacks(value[key], part, `${place}.${key}`) : [`${place}.${key} is missing`]
  ));
}

function holds(value, what) {
  const faults = lacks(value, known[what], `known.${what}`);
  check(faults.length === 0, `${faults.join(', ')}: ${JSON.stringify(value)}`);
  return value;
}

async function member(home, name) {
  const one = await agent(program, home, name, { more });
  const { call } = one;
  one.call = async (tool, ...rest) => holds(await call(tool, ...rest), tool);
  return one;
}

const host = await member(hostHome, 'ada');
const guest = await member(guestHome, 'bob');
tell('tools', { names: [...guest.unused] });
check((await guest.fail('tunnel_status')).code === 'PAIR_NO_SESSION', 'there is no tunnel yet');

const opened = await host.call('tunnel_open', { goal: 'find the bug', invites: 2 });
check(opened.status === 'waiting_for_guest' && opened.joinLinkExpiresInSec === 600 && opened.invites.length === 2, 'it is open');
check(opened.invite === opened.invites[0].invite && opened.invite.includes(opened.joinLink), 'the first is told by itself');
const joined = await guest.call('tunnel_join', { joinLink: opened.invite });
check(joined.tunnelId === opened.tunnelId && joined.peer === 'ada' && joined.goal === 'find the bug', JSON.stringify(joined));
check(joined.members.some(({ id, name }) => id === joined.self.id && name === 'bob'), JSON.stringify(joined));
tell('joined');

const waits = hear(host, 'tunnel_listen', { sinceSeq: 0 });
const said = await guest.call('tunnel_say', { text: 'hello' });
const heard = await waits;
check(heard.messages[0].seq === said.seq && heard.messages[0].text === 'hello', JSON.stringify(heard));
check(heard.messages[0].from === joined.self.id && heard.messages[0].fromName === 'bob', JSON.stringify(heard));
check(new Date(heard.messages[0].ts) >= new Date(heard.status.openedAt), JSON.stringify(heard));
check(heard.status.peerConnected && heard.status.role === 'host', JSON.stringify(heard.status));

file(guest, 'core.bin', 'core');
const shared = await guest.call('tunnel_share', { path: 'core.bin' });
const artifact = (await hear(host, 'tunnel_listen', { sinceSeq: said.seq })).messages[0];
check(artifact.kind === 'artifact' && artifact.type === 'artifact', JSON.stringify(artifact));
const described = holds(JSON.parse(artifact.text), 'artifact');
check(described.id === shared.artifactId && described.from === joined.self.id, JSON.stringify(artifact));
const received = await host.call('tunnel_receive', { artifactId: shared.artifactId });
check(readFileSync(received.savePath, 'utf8') === 'core' && received.sha256 === shared.sha256, JSON.stringify(received));

check((await host.call('tunnel_invite', { count: 3 })).invites.length === 3, 'three more invites');
const status = await guest.call('tunnel_status');
check(status.members.length === 2 && status.artifacts[0].fromName === 'bob', JSON.stringify(status));
check((await host.call('tunnel_close', { summary: 'found' })).ok, 'it is closed');
check(unseen.size === 0, `nothing was held against ${[...unseen].join(', ')}`);
host.unused.forEach((name) => check(!guest.unused.has(name), `${name} was not called`));
await host.end();
await guest.end();
tell('done');
