// One of two agents that know half each: the host's folder has what visitors met, the guest's what was deployed. Which commit
// broke it is in neither. Each is a process of its own that is given its own home alone; what it learns of the other half it is told.

import { readFileSync } from 'node:fs';
import { agent, file } from './agent.mjs';
import { check, tell } from './house.mjs';

const [program, home, role, names, invite] = process.argv.slice(2);
const more = names === 'tunnel' ? ['--compat', 'tunnel-mcp'] : [];
const one = await agent(program, home, role, { more });
const lines = (path) => readFileSync(path, 'utf8').trim().split('\n').map((line) => line.split(' '));

/** The same room by either set of names. `hear` gives what was said, or nothing when it is over. */
const rooms = {
  pair: {
    open: async (goal) => (await one.call('pair_open', { goal })).invites[0].text,
    join: (secret) => one.call('pair_join', { secret }),
    say: (kind, text) => one.call('pair_say', { kind, text }),
    share: (path) => one.call('pair_share', { path }),
    receive: async (offer) => (await one.call('pair_receive', { offer })).path,
    close: (summary) => one.call('pair_close', { summary }),
    async hear() {
      const { messages, reason } = await one.call('pair_listen');
      check(messages.every(({ untrusted }) => untrusted), 'what a peer says is marked');
      return reason === 'closed' ? undefined : messages.map(({ kind, text, seq }) => ({ kind, text, offer: seq }));
    },
  },
  tunnel: {
    seen: 0,
    open: async (goal) => (await one.call('tunnel_open', { goal })).invite,
    join: (joinLink) => one.call('tunnel_join', { joinLink }),
    // These have no kinds but in the text.
    say: (kind, text) => one.call('tunnel_say', { text: `${kind}: ${text}` }),
    share: (path) => one.call('tunnel_share', { path }),
    receive: async (artifactId) => (await one.call('tunnel_receive', { artifactId })).savePath,
    close: (summary) => one.call('tunnel_close', { summary }),
    async hear() {
      const { messages, status } = await one.call('tunnel_listen', { sinceSeq: this.seen });
      if (messages.length === 0 && status.closed) return undefined;
      return messages.map(({ kind, text, seq }) => {
        this.seen = seq;
        if (kind === 'artifact') return { kind: 'offer', offer: JSON.parse(text).id };
        const [, said, rest] = /^(question|answer): (.*)$/s.exec(text) ?? [undefined, kind, text];
        return { kind: said, text: rest };
      });
    },
  },
};
const room = rooms[names];

/** What this agent takes for the answer, and what the other one does. */
let own;
let other;
async function state(commit) {
  own = commit;
  await room.say('answer', `it was ${commit}`);
}

/** Of the visitors: which path fails for good at which instance, when it went well last and since when it does not. */
function failure() {
  const groups = new Map();
  for (const line of lines(`${one.cwd}/requests.log`)) {
    const [, , path, instance] = line;
    const key = `${path} ${instance}`;
    groups.set(key, [...(groups.get(key) ?? []), line]);
  }
  const broken = [...groups.values()].map((all) => {
    const good = all.findLastIndex(([, , , , status]) => status === '200');
    return { all, good, fails: all.length - 1 - good };
  }).filter(({ fails }) => fails > 1);
  check(broken.length === 1 && broken[0].good >= 0, 'one thing is broken, and was not from the beginning');
  const [{ all, good }] = broken;
  const [, , path, instance] = all[good];
  return { path, instance, good: Number(all[good][0]), bad: Number(all[good + 1][0]) };
}

const host = {
  async question(text) {
    const { path, instance, good, bad } = failure();
    if (text === 'what fails, and since when?') await room.say('answer', `${path} went well at ${good} and fails since ${bad}`);
    else if (text === 'at which instance?') await room.say('answer', `at instance ${instance}`);
    else throw new Error(`what is meant by ${text}?`);
  },
  async offer(_, id) {
    const { instance } = failure();
    const fitting = lines(await room.receive(id)).filter(([, , where]) => where === instance);
    check(fitting.length === 1, JSON.stringify(fitting));
    await state(fitting[0][3]);
  },
  async answer(text) {
    [, other] = /^it was (\w+)$/.exec(text);
  },
};

let candidates;
const guest = {
  async answer(text) {
    const since = /^(\S+) went well at (\d+) and fails since (\d+)$/.exec(text);
    const at = /^at instance (\d+)$/.exec(text);
    if (since) {
      const [, path, good, bad] = since;
      const fits = ([time, of]) => of === path && Number(time) > Number(good) && Number(time) <= Number(bad);
      candidates = lines(`${one.cwd}/deploys.log`).filter(fits);
      check(candidates.length > 1, 'this half and the first answer do not tell it yet');
      file(one, 'candidates.log', candidates.map((line) => line.join(' ')).join('\n'));
      await room.share('candidates.log');
      await room.say('question', 'at which instance?');
    } else if (at) {
      const fitting = candidates.filter(([, , instance]) => instance === at[1]);
      check(fitting.length === 1, JSON.stringify(fitting));
      await state(fitting[0][3]);
    } else [, other] = /^it was (\w+)$/.exec(text);
  },
};

if (role === 'host') tell('open', { invite: await room.open('find the commit that broke it') });
else {
  await room.join(invite);
  await room.say('question', 'what fails, and since when?');
}
const rules = { host, guest }[role];
let told = false;
let over = false;
for (let rounds = 0; !over; rounds += 1) {
  check(rounds < 12, 'they come to no end');
  const heard = await room.hear();
  if (!heard) break;
  for (const { kind, text, offer } of heard) await rules[kind]?.(text, offer);
  if (own && other && !told) {
    told = true;
    tell('stated', { own, other });
    if (role === 'host') {
      await room.close(`it was ${own}`);
      over = true;
    }
  }
}
check(told, 'it was over before both had said what they take for the answer');
tell('over');
await one.end();
