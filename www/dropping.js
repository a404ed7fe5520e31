// Files from the visitor's disk, picked or dropped. They may be dropped anywhere on the page; text may be dropped into
// the editor, as into any.

import { at } from './page.js';

/** `onFiles` is given the files while `isWelcome` says that they are. */
export function takeFiles({ isWelcome, onFiles }) {
  at('file').addEventListener('change', ({ target }) => {
    onFiles(target.files);
    target.value = ''; // so that the same file can be chosen again
  });

  const hasFiles = ({ dataTransfer }) => dataTransfer?.types.includes('Files') && !at('composer').hidden;
  const show = (isShown) => {
    at('drop').hidden = !isShown;
  };
  document.addEventListener('dragover', (event) => {
    if (!hasFiles(event)) return;
    event.preventDefault();
    show(true);
  });
  document.addEventListener('dragleave', ({ relatedTarget }) => relatedTarget === null && show(false));
  document.addEventListener('drop', (event) => {
    show(false);
    if (!hasFiles(event)) return;
    event.preventDefault();
    if (isWelcome()) onFiles(event.dataTransfer.files);
  });
}
