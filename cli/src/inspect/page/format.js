// Numbers and bodies as people read them.

export function bytes(count) {
  if (count < 1000) return `${count} B`;
  if (count < 1e6) return `${(count / 1000).toFixed(1)} kB`;
  if (count < 1e9) return `${(count / 1e6).toFixed(1)} MB`;
  return `${(count / 1e9).toFixed(1)} GB`;
}

export function duration(ms) {
  if (ms === null) return '…';
  if (ms < 10) return `${ms.toFixed(1)} ms`;
  return ms < 10_000 ? `${Math.round(ms)} ms` : `${(ms / 1000).toFixed(1)} s`;
}

export function time(ms) {
  return new Date(ms).toLocaleTimeString(undefined, { hour12: false });
}

/** Good, bad or neither, by a request's status. */
export function mood(request) {
  if (request.error || request.status >= 500) return 'bad';
  if (request.status >= 400) return 'warn';
  return request.status ? 'good' : 'quiet';
}

export function header(headers, name) {
  return headers.find(([key]) => key.toLowerCase() === name)?.[1] ?? '';
}

const MOST = 2_000_000;

/** A body as text, unpacked and laid out where that can be done; null for what is no text. */
export async function readable(body, headers) {
  const kind = header(headers, 'content-type');
  let text = body.text;
  const coding = header(headers, 'content-encoding').trim().toLowerCase();
  if (text === undefined && ['gzip', 'deflate'].includes(coding)) text = await unpacked(body.base64, coding);
  if (text === undefined || text === null) return null;
  if (!/json/i.test(kind)) return text;
  try {
    return JSON.stringify(JSON.parse(text), null, 2);
  } catch {
    return text;
  }
}

async function unpacked(base64, coding) {
  const packed = Uint8Array.from(atob(base64), (char) => char.charCodeAt(0));
  const reader = new Blob([packed]).stream().pipeThrough(new DecompressionStream(coding)).getReader();
  const decoder = new TextDecoder('utf-8', { fatal: true });
  let text = '';
  try {
    while (text.length < MOST) {
      const { done, value } = await reader.read();
      if (done) break;
      text += decoder.decode(value, { stream: true });
    }
    await reader.cancel();
  } catch {
    // What was cut can be read up to there; what is no text is not shown as text.
  }
  return text || null;
}
