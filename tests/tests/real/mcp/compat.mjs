// Agents that know the tools of tunnel-mcp: its names and fields, by every tool that there is.

import { readFileSync } from 'node:fs';
import { agent, file, hear } from './agent.mjs';
import { check, tell } from './house.mjs';

const [program, hostHome, guestHome] = process.argv.slice(2);
const more = ['--compat', 'tunnel-mcp'];
const host = await agent(program, hostHome, 'ada', { more });
const guest = await agent(program, guestHome, 'bob', { more });
tell('tools', { names: [...guest.unused] });
check((await guest.fail('tunnel_status')).code === 'PAIR_NO_SESSION', 'there is no tunnel yet');

const opened = await host.call('tunnel_open', { goal: 'find the bug', invites: 2 });
check(opened.status === 'waiting_for_guest' && opened.joinLinkExpiresInSec === 600 && opened.invites.length === 2, 'it is open');
const joined = await guest.call('tunnel_join', { joinLink: opened.invites[0].invite });
check(joined.tunnelId === opened.tunnelId && joined.peer === 'ada' && joined.goal === 'find the bug', JSON.stringify(joined));
tell('joined');

const waits = hear(host, 'tunnel_listen', { sinceSeq: 0 });
const said = await guest.call('tunnel_say', { text: 'hello' });
const heard = await waits;
check(heard.messages[0].seq === said.seq && heard.messages[0].text === 'hello', JSON.stringify(heard));
check(heard.messages[0].from === 'guest' && heard.messages[0].fromName === 'bob', JSON.stringify(heard));
check(heard.status.peerConnected && heard.status.role === 'host', JSON.stringify(heard.status));

file(guest, 'core.bin', 'core');
const shared = await guest.call('tunnel_share', { path: 'core.bin' });
const artifact = (await hear(host, 'tunnel_listen', { sinceSeq: said.seq })).messages[0];
check(artifact.type === 'artifact' && JSON.parse(artifact.text).id === shared.artifactId, JSON.stringify(artifact));
const received = await host.call('tunnel_receive', { artifactId: shared.artifactId });
check(readFileSync(received.savePath, 'utf8') === 'core' && received.sha256 === shared.sha256, JSON.stringify(received));

check((await host.call('tunnel_invite', { count: 3 })).invites.length === 3, 'three more invites');
check((await guest.call('tunnel_status')).members.length === 2, 'two are there');
check((await host.call('tunnel_close', { summary: 'found' })).ok, 'it is closed');
host.unused.forEach((name) => check(!guest.unused.has(name), `${name} was not called`));
await host.end();
await guest.end();
tell('done');
