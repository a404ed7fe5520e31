// Settings: their fields, their place in the page's address, and the code that does the same.
// They stand after the # of the address, which browsers send to no server.

import { make } from './page.js';
import { words } from './strings.js';

/** Name → the field's kind, bounds and default. The order is that on the page. */
const FIELDS = {
  maxTokens: { min: 1, max: 4096, step: 1, value: 200 },
  temperature: { min: 0, max: 2, step: 0.05, value: 0.7 },
  topK: { min: 0, max: 1024, step: 1, value: 0 },
  topP: { min: 0.05, max: 1, step: 0.05, value: 0.95 },
  minP: { min: 0, max: 1, step: 0.01, value: 0 },
  repetitionPenalty: { min: 1, max: 2, step: 0.05, value: 1.1 },
  presencePenalty: { min: -2, max: 2, step: 0.1, value: 0 },
  frequencyPenalty: { min: -2, max: 2, step: 0.1, value: 0 },
  seed: { min: 0, max: 4294967295, step: 1 },
  stop: { text: true },
};
/** `repetitionPenalty` → `repetition`; the button has `stop` already. */
const idOf = (name) => (name === 'stop' ? 'stop-at' : name.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`).replace(/-penalty$/, ''));

const input = (name) => document.getElementById(idOf(name));

/** Makes the fields, each with its explanation. */
export function makeFields(parent, onChange) {
  for (const [name, { text, value, ...bounds }] of Object.entries(FIELDS)) {
    const [title, why] = words.fields[name];
    const label = make('label', { textContent: title, htmlFor: idOf(name) });
    const field = make('input', { id: idOf(name), type: text ? 'text' : 'number' });
    for (const [key, bound] of Object.entries(bounds)) field.setAttribute(key, bound);
    if (value !== undefined) {
      field.defaultValue = value;
      field.required = true;
    } else field.placeholder = text ? words.never : words.random;
    field.setAttribute('aria-describedby', `${field.id}-why`);
    const reason = make('p', { id: `${field.id}-why`, textContent: why });
    field.addEventListener('change', onChange);
    parent.append(make('div', {}, label, field, reason));
  }
}

export function reset() {
  for (const name of Object.keys(FIELDS)) input(name).value = FIELDS[name].value ?? '';
}

export const setSeed = (seed) => {
  input('seed').value = seed;
};

/** As the package takes them; a seed only where one is given. */
export function read() {
  const options = {};
  for (const [name, { text }] of Object.entries(FIELDS)) {
    if (text) continue;
    const value = input(name).valueAsNumber;
    if (!Number.isNaN(value)) options[name] = value;
  }
  const stop = input('stop').value.split('|').map((each) => each.replace(/\\n/g, '\n')).filter((each) => each !== '');
  return stop.length > 0 ? { ...options, stop } : options;
}

/** Shows the first field that holds what it must not, and says whether there is none. */
export function areValid() {
  for (const name of Object.keys(FIELDS)) {
    if (input(name).checkValidity()) continue;
    input(name).closest('details').open = true;
    input(name).reportValidity();
    return false;
  }
  return true;
}

/** What differs from the defaults, as the part of an address after the #. */
export function toHash(more = {}) {
  const query = new URLSearchParams();
  for (const [name, { value }] of Object.entries(FIELDS)) {
    const now = input(name).value;
    if (now !== '' && now !== String(value)) query.set(name, now);
  }
  for (const [name, value] of Object.entries(more)) if (value !== undefined) query.set(name, value);
  return `${query}`;
}

/** Sets the fields from the part after the #, and gives the text that stands there. */
export function fromHash(hash) {
  const query = new URLSearchParams(hash.replace(/^#/, ''));
  for (const name of Object.keys(FIELDS)) {
    const value = query.get(name);
    if (value === null) continue;
    const before = input(name).value;
    input(name).value = value; // what is no number becomes empty
    if (!input(name).checkValidity()) input(name).value = before;
  }
  return query.get('text') ?? undefined;
}

/** A snippet that does the same with the package; `load` are the options of Helium.load. */
export function toCode(load, prompt, options) {
  const literal = (value) => (value instanceof Blob ? 'file' : JSON.stringify(value, (_, each) => (each instanceof Blob ? undefined : each)));
  const object = (fields, indent) => Object.entries(fields)
    .filter(([, value]) => value !== undefined)
    .map(([name, value]) => `${indent}${name}: ${Array.isArray(value) && value[0] instanceof Blob ? 'files' : literal(value)},`)
    .join('\n');
  return `import { Helium } from 'helium-webgpu';

const helium = await Helium.load({
${object(load, '  ')}
});
const tokens = helium.generate(${JSON.stringify(prompt)}, {
${object(withoutDefaults(options), '  ')}
});
for await (const { text } of tokens) {
  document.body.append(text);
}
await helium.close();
`;
}

/** Options that change nothing need not be written. */
function withoutDefaults(options) {
  const idle = { topK: 0, topP: 1, minP: 0, repetitionPenalty: 1, presencePenalty: 0, frequencyPenalty: 0 };
  return Object.fromEntries(Object.entries(options).filter(([name, value]) => idle[name] !== value));
}
