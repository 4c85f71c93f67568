// A request to be changed and sent again. What is left masked is sent as it was.

import { h } from './dom.js';

let count = 0;

function field(label, control, hint) {
  count += 1;
  control.id = `field-${count}`;
  return h('div', { class: 'field' }, h('label', { for: control.id }, label), control, hint && h('p', { class: 'faint' }, hint));
}

export function edit(request, send, close) {
  const { headers, body } = request.request;
  const method = h('input', { value: request.method, name: 'method', required: true, spellcheck: 'false', autocapitalize: 'characters' });
  const path = h('input', { value: request.path, name: 'path', required: true, spellcheck: 'false' });
  const lines = h('textarea', {
    name: 'headers', rows: Math.min(12, headers.length + 1), spellcheck: 'false',
    value: headers.map(([name, value]) => `${name}: ${value}`).join('\n'),
  });
  const text = body.base64 === undefined
    ? h('textarea', { name: 'body', rows: Math.min(16, (body.text ?? '').split('\n').length + 2), spellcheck: 'false', value: body.text ?? '' })
    : null;
  const wrong = h('p', { class: 'wrong', role: 'alert' });
  const submit = async (event) => {
    event.preventDefault();
    wrong.replaceChildren();
    const button = event.currentTarget.querySelector('[type=submit]');
    button.setAttribute('aria-busy', 'true');
    try {
      const content = { method: method.value.trim(), path: path.value.trim(), headers: parsed(lines.value) };
      if (text && text.value !== body.text) content.text = text.value;
      await send(content);
    } catch (error) {
      wrong.replaceChildren(`That did not work: ${error.message}.`);
    }
    button.removeAttribute('aria-busy');
  };
  return h('form', { class: 'panel', onsubmit: submit },
    h('h3', null, 'Edit and replay'),
    h('div', { class: 'pair' }, field('Method', method), field('Path', path)),
    field('Headers', lines, 'One in a line. What reads *** is sent as it was; the length is set for the body.'),
    text ? field('Body', text) : h('p', { class: 'faint' }, 'The body is no text, and is sent as it was.'),
    wrong,
    h('div', { class: 'actions' },
      h('button', { type: 'submit', class: 'button primary' }, 'Send'),
      h('button', { type: 'button', class: 'button', onclick: close }, 'Cancel')));
}

function parsed(text) {
  return text.split('\n').filter((line) => line.trim()).map((line) => {
    const colon = line.indexOf(':');
    if (colon < 1) throw new Error(`“${line}” is no header; write Name: value`);
    return [line.slice(0, colon).trim(), line.slice(colon + 1).trim()];
  });
}
