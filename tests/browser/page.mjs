// The page as a visitor uses it: by the roles and names of what is on it, with the demo model.

import assert from 'node:assert/strict';
import { mkdir, mkdtemp, open, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { basename, dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

import { find, openPage, textOf, until } from './browsers.mjs';
import { check } from './harness.mjs';
import { serve } from './server.mjs';

const SITE = fileURLToPath(new URL('../../target/site', import.meta.url));
const SHOTS = fileURLToPath(new URL('../../target/screenshots', import.meta.url));
// Seconds. Software adapters compute a token in one to ten of them, and more on a busy machine: tests ask for few
// tokens, and the limits only end what would never end.
const LOAD = 300; // load the demo model and write the first token
const WRITE = 180; // read a short prompt and write a few tokens

export async function testPage(browser, model) {
  const { name } = browser;
  await mkdir(SHOTS, { recursive: true });
  const damaged = await mkdtemp(join(tmpdir(), 'helium-damaged-'));
  await writeFile(join(damaged, 'truncated.gguf'), await firstBytes(model, 500_000));
  await writeFile(join(damaged, 'page.gguf'), '<!doctype html><title>Not a model</title>');
  const requests = [];
  const server = await serve({ '/': SITE, '/models/': dirname(model), '/damaged/': damaged }, { log: (line) => requests.push(line) });
  const shot = (page, what) => page.screenshot({ path: join(SHOTS, `${name}-${what}.png`), fullPage: true });
  let page;

  try {
    const opened = await check(`${name}: page opens, offers its models and downloads nothing yet`, 60, async () => {
      page = await openPage(browser, server.url);
      await find(page, 'textbox', 'Prompt');
      await find(page, 'region', 'Output');
      await find(page, 'progressbar', 'Loading');
      const chooser = await find(page, 'combobox', 'Model');
      assert.match(await chooser.evaluate((select) => select.selectedOptions[0].textContent), /Helium-1/);
      const facts = await page.$eval('#model-facts', (element) => element.textContent);
      for (const fact of [/1\.24 GB/, /CC-BY-SA 4\.0/, /Gemma terms/]) assert.match(facts, fact);
      assert.equal(await disabled(page, 'Stop'), true);
      await shot(page, 'start');
      await page.goto(`${server.url}?model=local`);
      assert.match(await page.$eval('#model-facts', (element) => element.textContent), /98 MB.*Apache-2\.0/);
      await new Promise((resolve) => setTimeout(resolve, 500));
      assert.deepEqual(requests.filter((line) => /\/models\/|damaged|wasm/.test(line)), []);
    });
    if (!opened) return;

    await check(`${name}: Generate loads the model, shows progress and streams the text`, LOAD + WRITE, async () => {
      await (await find(page, 'textbox', 'Prompt')).type('Once upon a time,');
      await setTokens(page, 6);
      // What a screen reader would have been told, and every stage of the bar and the text.
      await page.evaluate(() => {
        const seen = (globalThis.seen = { status: [], progress: [], lengths: [], generate: [] });
        const note = (list, value) => list.at(-1) !== value && list.push(value);
        new MutationObserver(() => {
          note(seen.status, document.getElementById('status').textContent);
          note(seen.progress, document.getElementById('figures').textContent);
          note(seen.lengths, document.getElementById('output').textContent.length);
          // Read here, since a fast adapter is done before the driver could ask.
          if (seen.lengths.at(-1) > 0) note(seen.generate, document.getElementById('generate').disabled);
        }).observe(document.body, { subtree: true, childList: true, characterData: true, attributes: true });
      });
      await press(page, 'Generate');
      await outputHas(page, (text) => text.length > 0, LOAD);
      await shot(page, 'writing');
      await statusIs(page, /^Done: 6 tokens, \d.* (tokens per second|seconds per token)\.$/, WRITE);
      const seen = await page.evaluate(() => globalThis.seen);
      assert.deepEqual(seen.generate, [true, false], 'whether Generate is disabled, while writing and after');
      assert.ok(seen.status.some((text) => /^Downloading/.test(text)), `statuses: ${seen.status.join(' | ')}`);
      assert.ok(seen.status.includes('Writing…'), `statuses: ${seen.status.join(' | ')}`);
      assert.ok(seen.progress.some((text) => /^\d.* of 98 MB/.test(text)), `progress: ${seen.progress.join(' | ')}`);
      assert.ok(seen.lengths.filter((length) => length > 0).length >= 3, `the text came in too few steps: ${seen.lengths.join(' ')}`);
      assert.equal(await (await find(page, 'progressbar', 'Loading')).evaluate((bar) => bar.value), 1);
      await shot(page, 'done');
    });

    await check(`${name}: Stop ends the writing, and it stays ended`, WRITE + 30, async () => {
      await setTokens(page, 400);
      await press(page, 'Generate');
      await outputHas(page, (text) => text.length > 0, WRITE);
      await press(page, 'Stop');
      await statusIs(page, /^Stopped after \d+ token/, 30);
      const text = await outputText(page);
      await new Promise((resolve) => setTimeout(resolve, 2500));
      assert.equal(await outputText(page), text);
      assert.equal(await disabled(page, 'Generate'), false);
      assert.equal(await disabled(page, 'Stop'), true);
    });

    await check(`${name}: the keyboard starts and ends it, without loading again`, WRITE + 30, async () => {
      const before = requests.filter((line) => /\/models\//.test(line)).length;
      await (await find(page, 'textbox', 'Prompt')).focus();
      await page.keyboard.down('Control');
      await page.keyboard.press('Enter');
      await page.keyboard.up('Control');
      await outputHas(page, (text) => text.length > 0, WRITE);
      await page.keyboard.press('Escape');
      await statusIs(page, /^Stopped after/, 30);
      assert.equal(requests.filter((line) => /\/models\//.test(line)).length, before);
    });

    await check(`${name}: the text can be continued from where it ended`, WRITE, async () => {
      await setTokens(page, 2);
      const text = await page.evaluate(() => document.getElementById('echo').textContent + document.getElementById('output').textContent);
      await press(page, 'Continue from here');
      await statusIs(page, /^Done: 2 tokens/, WRITE);
      assert.equal(await (await find(page, 'textbox', 'Prompt')).evaluate((box) => box.value), text);
      await noProblems(page);
    });

    for (const [address, pattern] of [
      ['damaged/truncated.gguf', /truncated\.gguf/],
      ['damaged/page.gguf', /page\.gguf/],
      ['damaged/missing.gguf', /missing\.gguf.*404.*check the address/],
      ['http://[', /weights: expected a URL/],
    ]) {
      await check(`${name}: ?weights=${address} ends in words, not in a stack`, 90, async () => {
        await page.goto(`${server.url}?weights=${encodeURIComponent(address)}`);
        await (await find(page, 'textbox', 'Prompt')).type('x');
        await press(page, 'Generate');
        const text = await until('an error is shown', () => page.$eval('#error', (box) => !box.hidden && box.textContent), 60_000);
        assert.match(text, pattern);
        assert.doesNotMatch(text, /\.js:\d|\bat .*\(|undefined|\[object/);
        assert.ok(!text.includes('\n'), text);
        assert.equal(await disabled(page, 'Generate'), false);
        await shot(page, 'error');
        await noProblems(page);
      });
    }

    await check(`${name}: a file from disk is loaded without a request`, LOAD, async () => {
      await page.goto(`${server.url}?weights=damaged/missing.gguf`);
      const input = await page.$('#file');
      await input.uploadFile(model);
      await until('the file is chosen', () => page.$eval('#model', (select, want) => select.selectedOptions[0].textContent === want, basename(model)));
      await (await find(page, 'textbox', 'Prompt')).type('The');
      await setTokens(page, 2);
      const before = requests.filter((line) => /gguf/.test(line)).length;
      await press(page, 'Generate');
      await statusIs(page, /^Done: 2 tokens/, LOAD);
      assert.equal(requests.filter((line) => /gguf/.test(line)).length, before);
      await noProblems(page);
    });

    await check(`${name}: Stop during the download settles`, 60, async () => {
      await page.goto(`${server.url}?model=local`);
      await until('the page says that the model is kept', () => page.$eval('#model-facts', (element) => /Kept in this browser/.test(element.textContent)));
      await (await find(page, 'textbox', 'Prompt')).type('x');
      // Pressed in one turn of the page, so that the download cannot be over in between.
      await page.evaluate(() => {
        document.getElementById('generate').click();
        document.getElementById('stop').click();
      });
      await statusIs(page, /^Loading was stopped\.$/, 20);
      assert.equal(await disabled(page, 'Generate'), false);
    });

    await check(`${name}: nothing is cut off from phone to wide`, 60, async () => {
      for (const width of [320, 390, 768, 1600]) {
        await page.setViewport({ width, height: 900 });
        await page.goto(server.url);
        const [scroll, inner] = await page.evaluate(() => [document.documentElement.scrollWidth, document.documentElement.clientWidth]);
        assert.ok(scroll <= inner, `at ${width} px the page is ${scroll} px wide`);
        await shot(page, `width-${width}`);
      }
      await page.setViewport({ width: 1100, height: 900 });
      if (name !== 'chromium') return; // WebDriver BiDi, which drives Firefox, cannot ask for the dark scheme
      await page.emulateMediaFeatures([{ name: 'prefers-color-scheme', value: 'dark' }]);
      await shot(page, 'dark');
      await page.emulateMediaFeatures([]);
    });
    await page.close();
  } finally {
    await server.close();
    await rm(damaged, { recursive: true, force: true });
  }
}

/** Where WebGPU is missing or switched off, the page says so and what would help. */
export async function testMissingWebGpu(browser) {
  const server = await serve({ '/': SITE });
  try {
    await check(`${browser.name}: without WebGPU the page says what would help`, 60, async () => {
      const page = await openPage(browser, server.url);
      await until('the advice is shown', () => page.$eval('#advice', (box) => !box.hidden), 15_000);
      const text = await page.$eval('#advice', (box) => box.textContent);
      assert.match(text, /needs WebGPU/);
      assert.match(text, browser.name === 'firefox' ? /about:config/ : /chrome:\/\/flags/);
      assert.match(text, /Safari 26/);
      assert.equal(await page.$eval('#composer', (form) => form.hidden), true);
      await page.screenshot({ path: join(SHOTS, `${browser.name}-no-webgpu.png`) });
      await noProblems(page);
    });
  } finally {
    await server.close();
  }
}

async function firstBytes(file, count) {
  const handle = await open(file);
  const bytes = Buffer.alloc(count);
  await handle.read(bytes, 0, count, 0);
  await handle.close();
  return bytes;
}

const press = async (page, button) => (await find(page, 'button', button)).click();
const disabled = async (page, button) => (await find(page, 'button', button)).evaluate((element) => element.disabled);
const outputText = async (page) => textOf(await find(page, 'region', 'Output'));
const noProblems = async (page) => assert.deepEqual(page.problems, []);

async function setTokens(page, count) {
  await page.$eval('.settings', (details) => {
    details.open = true;
  });
  const field = await find(page, 'spinbutton', 'Tokens at most');
  await field.evaluate((input, value) => {
    input.value = value;
  }, String(count));
}

/** Waits for the output; an error on the page ends the wait with its words. */
async function outputHas(page, test, seconds) {
  await until('the output has what was expected', async () => {
    await noError(page);
    return test(await page.$eval('#output', (element) => element.textContent));
  }, seconds * 1000);
}

async function statusIs(page, pattern, seconds) {
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
