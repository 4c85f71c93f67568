// Hints that something has changed. A stream where it can be had, else a question from time to time; none while
// nobody looks, so that windows in the background hold no connection.

import { call } from './api.js';

/** Rest between two questions where there is no stream. */
const POLL = 10_000;
/** Rest before a stream that broke off is tried again, doubled up to the last. */
const AGAIN = [1000, 30_000];
/** Without a sign of life for so long a stream is dead; one comes every 15 s. */
const SILENCE = 40_000;

/** Follows the changes and calls `changed` with topics, or with `null` where everything may have changed. */
export function follow(changed, state) {
  let stop = null;
  const begin = () => {
    if (stop || document.hidden) return;
    const control = new AbortController();
    stop = () => control.abort();
    run(control.signal, changed, state);
  };
  const look = () => {
    if (!document.hidden) {
      changed(null);
      begin();
    } else if (stop) {
      stop();
      stop = null;
    }
  };
  document.addEventListener('visibilitychange', look);
  begin();
  return () => {
    document.removeEventListener('visibilitychange', look);
    stop?.();
  };
}

async function run(signal, changed, state) {
  let wait = AGAIN[0];
  while (!signal.aborted) {
    try {
      const response = await call('GET', '/events', { stream: true, signal });
      wait = AGAIN[0];
      state('live');
      await read(response.body, signal, changed);
    } catch (error) {
      if (signal.aborted) return;
      if (error.status === 401) return;
      const refused = error.status >= 400 && error.status < 500;
      state(refused ? 'polling' : 'away');
      await rest(refused ? POLL : wait, signal);
      wait = Math.min(wait * 2, AGAIN[1]);
    }
    if (!signal.aborted) changed(null);
  }
}

async function read(body, signal, changed) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let text = '';
  for (;;) {
    const { done, value } = await inTime(reader, signal);
    if (done) return;
    text += value;
    for (let end = text.indexOf('\n\n'); end >= 0; end = text.indexOf('\n\n')) {
      const topics = topicsOf(text.slice(0, end));
      text = text.slice(end + 2);
      if (topics) changed(topics);
    }
  }
}

/** The next piece, unless there is none for too long. */
async function inTime(reader, signal) {
  let timer;
  const silence = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error('silence')), SILENCE);
  });
  try {
    return await Promise.race([reader.read(), silence]);
  } catch (error) {
    if (!signal.aborted) reader.cancel().catch(() => {});
    throw error;
  } finally {
    clearTimeout(timer);
  }
}

/** The topics of one event; a comment has none. */
export function topicsOf(event) {
  const data = event.split('\n').filter((line) => line.startsWith('data:')).map((line) => line.slice(5).trim());
  if (data.length === 0) return null;
  try {
    const { topics } = JSON.parse(data.join('\n'));
    return Array.isArray(topics) ? topics : null;
  } catch {
    return null;
  }
}

function rest(time, signal) {
  return new Promise((resolve) => {
    const timer = setTimeout(resolve, time);
    signal.addEventListener('abort', () => {
      clearTimeout(timer);
      resolve();
    }, { once: true });
  });
}
