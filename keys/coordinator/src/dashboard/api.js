// Calls of the coordinator's API. The access token is in memory only; the browser keeps the refresh token, where no
// script can read it.

import { setClock } from './format.js';

const BASE = '/api/v1';

let access = null;
let renewal = null;
let onEnd = () => {};

/** A call that was not done: what happened, and what to do about it. */
export class Trouble extends Error {
  constructor(status, { code, message, help }) {
    super(message);
    this.status = status;
    this.code = code;
    this.help = help;
  }

  /** The coordinator does not know this path at all: it is an older one. */
  get unknownRoute() {
    return this.status === 405 || (this.status === 404 && /nothing here/.test(this.message));
  }
}

const UNREACHABLE = {
  code: 'coordinator_unreachable',
  message: 'The coordinator does not answer.',
  help: 'Check that it runs and that this device is online. This page tries again by itself.',
};

/** Called when the session has ended and cannot be renewed. */
export function whenSignedOut(handler) {
  onEnd = handler;
}

/** Is somebody signed in, as far as is known here? */
export const signedIn = () => access !== null;

/** Takes the access token of a sign-in. */
export function signIn(token) {
  access = token;
}

/** One exchange, without any second try. */
export async function send(method, path, { body, token, signal, stream } = {}) {
  const headers = { accept: stream ? 'text/event-stream' : 'application/json' };
  if (token) headers.authorization = `Bearer ${token}`;
  if (body !== undefined) headers['content-type'] = 'application/json';
  const request = { method, headers, signal, cache: 'no-store', credentials: 'same-origin' };
  if (body !== undefined) request.body = JSON.stringify(body);
  let response;
  try {
    response = await fetch(BASE + path, request);
  } catch (error) {
    if (error.name === 'AbortError') throw error;
    throw new Trouble(0, UNREACHABLE);
  }
  setClock(response.headers.get('date'));
  if (response.ok && stream) return response;
  const text = await response.text().catch(() => '');
  const answer = parse(text);
  if (response.ok) return answer;
  throw new Trouble(response.status, answer?.error ?? unexpected(response.status));
}

function parse(text) {
  try {
    return text === '' ? null : JSON.parse(text);
  } catch {
    return null;
  }
}

function unexpected(status) {
  return {
    code: 'internal',
    message: `The server answered with status ${status} and no reason.`,
    help: 'Try again; if it stays so, something between this page and the coordinator answers in its place.',
  };
}

/** A call as whoever is signed in. A token that has ended is renewed, and the call made again, unless it is to be made `once`. */
export async function call(method, path, options = {}) {
  if (access === null) throw ended();
  const used = access;
  try {
    return await send(method, path, { ...options, token: used });
  } catch (trouble) {
    if (options.once || trouble.status !== 401 || !['invalid_key', 'key_expired'].includes(trouble.code)) throw trouble;
    if (access === used && !(await renew())) {
      access = null;
      onEnd();
      throw trouble;
    }
    return send(method, path, { ...options, token: access });
  }
}

function ended() {
  return new Trouble(401, { code: 'invalid_key', message: 'Nobody is signed in.', help: 'Sign in again.' });
}

export const get = (path, options) => call('GET', path, options);
export const post = (path, body, options) => call('POST', path, { ...options, body });
export const put = (path, body) => call('PUT', path, { body });
export const patch = (path, body) => call('PATCH', path, { body });
export const remove = (path) => call('DELETE', path);

/** Gets a new access token by the browser's refresh cookie; says whether there is one. */
export function renew() {
  renewal ??= alone(refresh).finally(() => {
    renewal = null;
  });
  return renewal;
}

/** A refresh token counts once, and all windows share it: one of them at a time. */
function alone(work) {
  return navigator.locks ? navigator.locks.request('mytunnel-refresh', work) : work();
}

async function refresh() {
  try {
    const answer = await send('POST', '/auth/refresh');
    access = answer?.access_token ?? null;
    return access !== null;
  } catch (trouble) {
    // While the coordinator is away nobody was signed out.
    if (trouble.status === 0 || trouble.status >= 500) throw trouble;
    return false;
  }
}

/** Ends the session here and at the coordinator. */
export async function signOut() {
  const token = access;
  access = null;
  await send('POST', '/auth/logout', { token }).catch(() => {});
  onEnd();
}

/** What a page shows in the place of a part that this coordinator does not have. */
export async function optional(promise) {
  try {
    return await promise;
  } catch (trouble) {
    if (trouble instanceof Trouble && trouble.unknownRoute) return null;
    throw trouble;
  }
}
