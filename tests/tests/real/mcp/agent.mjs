// An agent whose client is the official SDK's: once it has listed the tools, that checks whatever a tool gives against the
// schema that the tool names.

import { mkdirSync, writeFileSync } from 'node:fs';
import { Client } from '@modelcontextprotocol/sdk/client/index.js';
import { StdioClientTransport } from '@modelcontextprotocol/sdk/client/stdio.js';
import { ElicitRequestSchema } from '@modelcontextprotocol/sdk/types.js';
import { check, tell } from './house.mjs';

/** Starts a server in a home, for an agent of this name, whose person is shown forms if there is something to fill them in. */
export async function agent(program, home, name, { more = [], fill } = {}) {
  const faults = [];
  const client = new Client(
    { name: 'sdk', version: '1' }, { capabilities: fill ? { elicitation: { form: {} } } : {} },
  );
  client.onerror = (error) => faults.push(error.message);
  if (fill) client.setRequestHandler(ElicitRequestSchema, fill);
  const cwd = `${home}/project`;
  mkdirSync(cwd, { recursive: true });
  await client.connect(new StdioClientTransport({
    command: program, args: ['mcp', '--name', name, ...more], cwd,
    env: { HOME: home, MYTUNNEL_CONFIG_DIR: `${home}/config`, MYTUNNEL_PAIR_LISTEN: '127.0.0.1:0' },
  }));
  check(client.getServerVersion().name === 'mytunnel', 'the server says what it is');
  const { tools } = await client.listTools();
  const unused = new Set(tools.map((tool) => tool.name));
  check(tools.every((tool) => tool.outputSchema && tool.inputSchema.additionalProperties === false), 'each tool has its schemas');
  return {
    client, unused, cwd,
    async call(name, args = {}, options = undefined) {
      const result = await client.callTool({ name, arguments: args }, undefined, options);
      check(!result.isError, `${name}: ${JSON.stringify(result)}`);
      unused.delete(name);
      // Who runs this waits for a line, and not for all of it.
      tell('called', { name });
      // A client that knows no structure reads the same as text.
      check(JSON.stringify(JSON.parse(result.content[0].text)) === JSON.stringify(result.structuredContent), `${name} says two things`);
      return result.structuredContent;
    },
    /** What a tool says that cannot do it: what happened, and what helps. */
    async fail(name, args = {}) {
      const result = await client.callTool({ name, arguments: args });
      const told = JSON.parse(result.content[0].text);
      check(result.isError && told.code && told.message && told.help, `${name}: ${JSON.stringify(result)}`);
      return told;
    },
    async end() {
      await client.close();
      check(faults.length === 0, faults.join('\n'));
    },
  };
}

/** Listens until something is said. */
export async function hear(agent, tool, args = {}) {
  for (let tries = 0; tries < 6; tries += 1) {
    const heard = await agent.call(tool, args);
    if (heard.messages.length > 0 || heard.reason === 'closed') return heard;
  }
  throw new Error('nothing is heard');
}

export function file(agent, name, text) {
  writeFileSync(`${agent.cwd}/${name}`, text);
}
