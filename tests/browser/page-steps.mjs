// What a visitor does on the page and sees of it, by the roles and names of what is there.

import assert from 'node:assert/strict';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import axe from 'axe-core';

import { find as search, textOf, until } from './browsers.mjs';

export const SITE = fileURLToPath(new URL('../../target/site', import.meta.url));
export const SHOTS = fileURLToPath(new URL('../../target/screenshots', import.meta.url));

/** By browser and role, the ids of elements that were found. */
const known = new WeakMap();

/**
 * As `find` of browsers.mjs. What was found once is taken by its id from then on, if that is what it is called: Firefox
 * looks through a page for half a second each time.
 */
export async function find(page, role, name) {
  const browser = page.browser();
  if (!known.has(browser)) known.set(browser, {});
  const ids = (known.get(browser)[role] ??= new Set());
  const there = await page.evaluateHandle((ids, name) => {
    const nameOf = (element) => element.ariaLabel ?? element.labels?.[0]?.textContent ?? element.textContent;
    return ids.map((id) => document.getElementById(id)).find((element) => element?.checkVisibility() && nameOf(element) === name);
  }, [...ids], name);
  if (there.asElement()) return there.asElement();
  const handle = await search(page, role, name);
  const id = await handle.evaluate((element) => element.id);
  if (id) ids.add(id);
  return handle;
}

export const press = async (page, button) => (await find(page, 'button', button)).click();
export const disabled = async (page, button) => (await find(page, 'button', button)).evaluate((element) => element.disabled);
export const outputText = async (page) => textOf(await find(page, 'region', 'Output'));
export const promptText = async (page) => (await find(page, 'textbox', 'Prompt')).evaluate((box) => box.value);
export const progress = async (page) => (await find(page, 'progressbar', 'Loading')).evaluate((bar) => bar.value);
export const modelName = (page) => page.$eval('#model', (select) => select.selectedOptions[0].textContent);
export const facts = (page) => page.$eval('#model-facts', (line) => line.textContent);
export const noProblems = async (page) => assert.deepEqual(page.problems, []);

/** Puts a text in place of what stands in the editor, with the cursor at its end. */
export const paste = async (page, text) => (await find(page, 'textbox', 'Prompt')).evaluate((box, value) => {
  box.value = value;
  box.dispatchEvent(new Event('input'));
}, text);

export const setTokens = (page, count) => setField(page, 'spinbutton', 'Tokens at most', String(count));

export async function setField(page, role, name, text) {
  await page.$eval('.settings', (details) => {
    details.open = true;
  });
  const field = await find(page, role, name);
  await field.evaluate((input, value) => {
    input.value = value;
    input.dispatchEvent(new Event('change'));
  }, text);
}

export async function withControl(page, key) {
  await page.keyboard.down('Control');
  await page.keyboard.press(key);
  await page.keyboard.up('Control');
}

/** Drops files, `[name, text or address]`, onto the page. */
export const drop = (page, files) => page.evaluate(async (files) => {
  const dataTransfer = new DataTransfer();
  for (const [name, { text, url }] of files) dataTransfer.items.add(new File([text ?? (await (await fetch(url)).arrayBuffer())], name));
  for (const type of ['dragover', 'drop']) document.body.dispatchEvent(new DragEvent(type, { dataTransfer, bubbles: true, cancelable: true }));
}, files);

/** axe-core finds nothing. */
export async function accessible(page) {
  await page.evaluate(axe.source);
  const found = await page.evaluate(async () => {
    const { violations } = await globalThis.axe.run(document, { resultTypes: ['violations'] });
    return violations.map(({ id, help, nodes }) => `${id}: ${help}: ${nodes.slice(0, 3).map(({ html }) => html).join(' ')}`);
  });
  assert.deepEqual(found, []);
}

/** The words of the error that the page shows: in whole sentences, and nothing of the code's. */
export async function errorText(page, seconds = 60) {
  const text = await until('an error is shown', () => page.$eval('#error', (box) => !box.hidden && box.textContent), seconds * 1000);
  assert.doesNotMatch(text, /\.js:\d|\bat .*\(|undefined|\[object/);
  assert.ok(!text.includes('\n'), text);
  await until('Generate can be pressed', async () => !(await disabled(page, 'Generate')), 5000);
  return text;
}

/** Waits for the output; an error on the page ends the wait with its words. */
export async function outputHas(page, test, seconds) {
  await until('the output has what was expected', async () => {
    await noError(page);
    return test(await page.$eval('#output', (element) => element.textContent));
  }, seconds * 1000);
}

export async function statusIs(page, pattern, seconds) {
  let last;
  await until(`the status is ${pattern}`, async () => {
    await noError(page);
    last = await page.$eval('[role="status"]', (element) => element.textContent);
    return pattern.test(last);
  }, seconds * 1000).catch((error) => {
    throw new Error(`${error.message}; it is "${last}"`);
  });
}

async function noError(page) {
  const error = await page.$eval('#error', (box) => (box.hidden ? '' : box.textContent));
  if (error) throw new Error(`the page shows an error: ${error}`);
}

/** Pictures of a state, which must not be wider than the window: on a desktop and a phone, light and dark. */
export async function look(page, browser, what) {
  for (const [device, width, height] of [['desktop', 1280, 900], ['phone', 390, 844]]) {
    await page.setViewport({ width, height });
    const [scroll, inner] = await page.evaluate(() => {
      scrollTo(0, 0);
      return [document.documentElement.scrollWidth, document.documentElement.clientWidth];
    });
    assert.ok(scroll <= inner, `${what}: at ${width} px the page is ${scroll} px wide`);
    for (const scheme of ['light', 'dark']) {
      await prefer(page, browser, scheme);
      await page.screenshot({ path: join(SHOTS, `${browser}-${what}-${device}-${scheme}.png`), fullPage: true, ...(browser === 'chromium' && { optimizeForSpeed: true }) });
    }
  }
  await prefer(page, browser);
  await page.setViewport({ width: 1100, height: 900 });
}

/** Has the page in a visitor's colours; without a `scheme`, as it was. */
async function prefer(page, browser, scheme) {
  if (browser === 'chromium') return page.emulateMediaFeatures(scheme ? [{ name: 'prefers-color-scheme', value: scheme }] : []);
  // WebDriver BiDi, which drives Firefox, cannot ask for colours: the rules that ask for them are made to hold or not.
  return page.evaluate((scheme) => {
    document.documentElement.style.colorScheme = scheme ?? '';
    for (const { cssRules } of document.styleSheets) {
      for (const { media } of cssRules) {
        if (media?.mediaText.includes('dark')) media.asked = media.mediaText;
        if (media?.asked) media.mediaText = scheme === 'dark' ? 'all' : media.asked;
      }
    }
  }, scheme);
}
