// A master key, made in this browser: its seed never leaves it. The text is the one that `mytunnel` reads
// (keys/src/token.rs): version, seed, serial, root, project, server; base58; six characters of checksum.

const B58 = '123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz';
const B62 = '0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz';

/** Identity multihash of the protobuf of an Ed25519 key: what stands before the key in a peer id. */
const PEER = [0x00, 0x24, 0x08, 0x01, 0x12, 0x20];

/** Whether this browser can make Ed25519 keys; it must be recent, and the page reached by https or on this machine. */
export async function canMakeKeys() {
  try {
    await makeKey();
    return true;
  } catch {
    return false;
  }
}

/** A new key: its seed, and its public half as the API takes it. */
export async function makeKey() {
  const pair = await crypto.subtle.generateKey({ name: 'Ed25519' }, true, ['sign', 'verify']);
  // The seed is the end of the private key's one encoding (RFC 8410).
  const pkcs8 = new Uint8Array(await crypto.subtle.exportKey('pkcs8', pair.privateKey));
  const point = new Uint8Array(await crypto.subtle.exportKey('raw', pair.publicKey));
  if (pkcs8.length !== 48 || point.length !== 32) throw new Error('this browser writes keys in another form');
  return { seed: pkcs8.slice(16), publicKey: base58(Uint8Array.of(...PEER, ...point)) };
}

/** The text of a master key. */
export function masterToken({ seed, serial, root, project, server }) {
  const payload = Uint8Array.of(1, ...seed, ...hex(serial), ...hex(root), ...counted(project), ...counted(server));
  const text = `mtk_master_${base58(payload)}`;
  return text + checksum(text);
}

function counted(text) {
  const bytes = new TextEncoder().encode(text);
  if (bytes.length > 255) throw new Error('too long for a key');
  return [bytes.length, ...bytes];
}

function hex(text) {
  if (!/^([0-9a-f]{2})+$/.test(text)) throw new Error('not in hexadecimal');
  return text.match(/../g).map((digits) => parseInt(digits, 16));
}

/** Bitcoin's base58: leading zeros are ones. */
export function base58(bytes) {
  const digits = [];
  for (const byte of bytes) {
    let carry = byte;
    for (let at = 0; at < digits.length; at += 1) {
      carry += digits[at] * 256;
      digits[at] = carry % 58;
      carry = Math.floor(carry / 58);
    }
    for (; carry > 0; carry = Math.floor(carry / 58)) digits.push(carry % 58);
  }
  const zeros = bytes.findIndex((byte) => byte !== 0);
  const leading = zeros < 0 ? bytes.length : zeros;
  return '1'.repeat(leading) + digits.reverse().map((digit) => B58[digit]).join('');
}

/** CRC32 (IEEE) of a text in base62, the highest digit first. */
export function checksum(text) {
  let crc = 0xffffffff;
  for (const byte of new TextEncoder().encode(text)) {
    crc ^= byte;
    for (let bit = 0; bit < 8; bit += 1) crc = (crc >>> 1) ^ (crc & 1 ? 0xedb88320 : 0);
  }
  let rest = (crc ^ 0xffffffff) >>> 0;
  let digits = '';
  for (let place = 0; place < 6; place += 1) {
    digits = B62[rest % 62] + digits;
    rest = Math.floor(rest / 62);
  }
  return digits;
}
