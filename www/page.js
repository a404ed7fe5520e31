// The elements of a page by their ids, new ones, and the status line. Knows nothing of what they are for.

export const at = (id) => document.getElementById(id);

/** A new element with these properties and children, texts or elements. */
export function make(name, properties = {}, ...children) {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...children);
  return made;
}

/** What goes on, in the live status line. */
export function say(text) {
  // Written only where it differs, so that a screen reader is not told the same thing ten times a second.
  if (at('status').textContent !== text) at('status').textContent = text;
}
