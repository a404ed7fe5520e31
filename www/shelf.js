// The list of models that are kept in this browser, with their sizes and a way to delete each.

import { Helium } from './helium/index.js';
import { make } from './page.js';
import { words } from './strings.js';
import { bytes } from './words.js';

/** Fills the list anew. `onDelete` is told the name of a model that was deleted, or the error. */
export async function showShelf({ list, none }, onDelete) {
  const models = await Helium.cached().catch(() => []);
  list.replaceChildren(...models.map((model) => {
    const name = make('span', { className: 'kept-name', textContent: model.name, title: model.url });
    const size = make('span', { className: 'kept-size', textContent: model.complete ? bytes(model.bytes) : words.keptPart(bytes(model.bytes)) });
    const button = make('button', { type: 'button', className: 'tool', textContent: words.delete });
    button.setAttribute('aria-label', words.keptDelete(model.name));
    button.addEventListener('click', async () => {
      button.disabled = true;
      const error = await Helium.deleteCached(model).then(() => undefined, (problem) => problem);
      await showShelf({ list, none }, onDelete);
      list.closest('details').querySelector('summary').focus(); // the button is gone
      onDelete(model.name, error);
    });
    return make('li', {}, name, size, button);
  }));
  none.hidden = models.length > 0;
}
