// Two agents open, join, talk, decide, give a file and end, by every tool that there is.

import { readFileSync } from 'node:fs';
import { agent, file, hear } from './agent.mjs';
import { check, tell } from './house.mjs';

const [program, hostHome, guestHome] = process.argv.slice(2);
const forms = [];
const fill = async ({ params }) => {
  forms.push(params);
  return { action: 'accept', content: { decision: 'approve' } };
};
const host = await agent(program, hostHome, 'ada', { fill });
const guest = await agent(program, guestHome, 'bob');
tell('tools', { names: [...guest.unused] });

check((await guest.call('pair_status')).sessions.length === 0, 'there is no session yet');
check((await guest.fail('pair_say', { text: 'x' })).code === 'PAIR_NO_SESSION', 'and nobody to talk to');
const opened = await host.call('pair_open', { goal: 'find the bug' });
check(opened.state === 'waiting_for_guest' && opened.invites.length === 1, JSON.stringify(opened.state));
const joined = await guest.call('pair_join', { secret: opened.invites[0].text });
check(joined.session === opened.session && joined.goal === 'find the bug' && joined.state === 'connected', JSON.stringify(joined));
tell('joined');

check((await host.call('pair_listen', { wait_ms: 0 })).reason === 'timeout', 'nothing was said');
const waits = hear(host, 'pair_listen');
const said = await guest.call('pair_say', { text: 'which one?', kind: 'question' });
const [question] = (await waits).messages;
check(question.text === 'which one?' && question.kind === 'question' && question.from.name === 'bob', JSON.stringify(question));
check(question.untrusted === true && question.seq === said.seq, JSON.stringify({ question, said }));

// What an agent gave up on comes again.
const given = new AbortController();
const gone = guest.call('pair_listen', {}, { signal: given.signal }).then(() => 'answered', () => 'given up');
given.abort();
check(await gone === 'given up', 'the SDK gives up');
await host.call('pair_say', { text: 'the last', kind: 'answer', reply_to: question.seq });
const [answer] = (await hear(guest, 'pair_listen')).messages;
check(answer.text === 'the last' && answer.reply_to === question.seq, JSON.stringify(answer));
tell('talked');

const proposed = await guest.call('pair_propose', { action: 'rm -r target', risk: 'a long build' });
check((await hear(host, 'pair_listen')).messages[0].kind === 'proposal', 'the proposal is heard');
const [decision] = (await hear(guest, 'pair_listen')).messages;
check(forms.length === 1 && forms[0].message.includes('bob proposes: rm -r target'), JSON.stringify(forms));
check(forms[0].requestedSchema.properties.decision.enum.join() === 'deny,approve', JSON.stringify(forms));
check(decision.reply_to === proposed.approval && decision.data.verdict === 'approved' && decision.data.by === 'human', JSON.stringify(decision));
tell('decided');

file(host, 'notes.md', '# found it\n');
const shared = await host.call('pair_share', { path: 'notes.md' });
check((await hear(guest, 'pair_listen')).messages[0].seq === shared.offer, 'the offer is heard');
const received = await guest.call('pair_receive', { offer: shared.offer });
check(received.state === 'received' && readFileSync(received.path, 'utf8') === '# found it\n', JSON.stringify(received));

check((await host.call('pair_invite', { count: 2 })).invites.length === 2, 'two more invites');
check((await guest.call('pair_peers')).peers[0].name === 'ada', 'the host is a peer');
const [status] = (await host.call('pair_status')).sessions;
check(status.members[0].name === 'bob' && status.unread === 0 && status.approvals[0].state === 'approved', JSON.stringify(status));

const last = hear(guest, 'pair_listen');
await host.call('pair_close', { summary: 'found' });
check((await last).messages[0]?.text === 'found', 'the summary comes before the end');
check((await hear(guest, 'pair_listen')).reason === 'closed', 'and then the end');
check((await guest.fail('pair_say', { text: 'late' })).code === 'PAIR_CLOSED', 'it is closed');
await guest.call('pair_open', { goal: 'another' });
await guest.call('pair_close');
host.unused.forEach((name) => check(!guest.unused.has(name), `${name} was not called`));
await host.end();
await guest.end();
tell('done');
