// What the share is asked. Addresses are relative: the secret in our own path goes with them.

async function ask(path, options) {
  let response;
  try {
    response = await fetch(`api/${path}`, options);
  } catch {
    throw new Error('the share does not answer; it may have ended');
  }
  const answer = await response.json();
  if (!response.ok) throw new Error(answer.error);
  return answer;
}

function send(path, content = {}) {
  return ask(path, { method: 'POST', headers: { 'content-type': 'application/json' }, body: JSON.stringify(content) });
}

export const list = (after, text, wait) =>
  ask(`requests?after=${after}&q=${encodeURIComponent(text)}${wait ? '&wait=1' : ''}`);
export const one = (id, shown) => ask(`requests/${id}${shown ? '?secrets=show' : ''}`);
export const curl = (id) => ask(`requests/${id}/curl`);
export const replay = (id, edit) => send(`requests/${id}/replay`, edit);
export const verify = (id, provider, secret) => send(`requests/${id}/verify`, { provider, secret });
export const clear = () => send('clear');
