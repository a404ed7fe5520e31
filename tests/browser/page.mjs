// The page as a visitor uses it: by the roles and names of what is on it, with the demo model.

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { mkdir, mkdtemp, open, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { basename, dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

import { LOSES_DEVICE, loseDevice, openPage, until } from './browsers.mjs';
import { byteTokenizer } from './delivery.mjs';
import { check } from './harness.mjs';
import { testStates } from './page-states.mjs';
import { accessible, disabled, drop, errorText, facts, find, look, modelName, noProblems, outputHas, outputText, paste, press, progress, promptText, setField, setTokens, SHOTS, SITE, statusIs, withControl } from './page-steps.mjs';
import { serve } from './server.mjs';

const GOLDENS = fileURLToPath(new URL('../data/goldens', import.meta.url));
// Seconds. Software adapters compute a token in one to ten of them, and more on a busy machine: tests ask for few
// tokens, and the limits only end what would never end.
const LOAD = 300; // load the demo model and write the first token
const WRITE = 180; // read a short prompt and write a few tokens
/** Of the model, where the network breaks off at first. */
const GONE_FROM = 40 << 20;

export async function testPage(browser, model) {
  const { name } = browser;
  await mkdir(SHOTS, { recursive: true });
  const damaged = await mkdtemp(join(tmpdir(), 'helium-damaged-'));
  await writeFile(join(damaged, 'truncated.gguf'), await firstBytes(model, 500_000));
  await writeFile(join(damaged, 'page.gguf'), '<!doctype html><title>Not a model</title>');
  await writeFile(join(damaged, 'tokenizer.json'), byteTokenizer());
  const requests = [];
  /** Of the model, from which byte on the network is gone. */
  let goneFrom = Infinity;
  let breaksOff = false;
  const ranges = [];
  const server = await serve({ '/': SITE, '/models/': dirname(model), '/damaged/': damaged, '/goldens/': GOLDENS }, {
    log: (line) => requests.push(line),
    intercept: ({ url, headers, socket }, response) => {
      if (url === '/helium/worker.js') {
        response.writeHead(200, { 'content-type': 'text/javascript' }).end(LOSES_DEVICE + readFileSync(join(SITE, 'helium/worker.js')));
        return true;
      }
      if (breaksOff && url === '/style.css') {
        response.writeHead(200, { 'content-type': 'text/css', 'content-length': 1000 }).write('body {');
        setTimeout(() => socket.destroy(), 100);
        return true;
      }
      if (!url.startsWith('/models/')) return false;
      const from = Number(/^bytes=(\d+)-/.exec(headers.range ?? '')?.[1] ?? 0);
      if (headers.range !== 'bytes=0-0') ranges.push(from); // which only asks whether the file is still the same
      if (from >= goneFrom) socket.destroy();
      return from >= goneFrom;
    },
  });
  const shot = (page, what) => page.screenshot({ path: join(SHOTS, `${name}-${what}.png`), fullPage: true });
  let page;

  try {
    const opened = await check(`${name}: page opens, offers its models and downloads nothing yet`, 60, async () => {
      page = await openPage(browser, server.url);
      await until('the files are kept', () => page.evaluate(() => navigator.serviceWorker.controller !== null));
      // By the page, to be kept, and the icon by the browser besides.
      const often = [...new Set(requests)].filter((line) => requests.filter((other) => other === line).length > 3);
      assert.deepEqual(often, [], 'a file was asked for more than three times');
      // A lost network is given up sooner than the package does otherwise.
      await page.evaluateOnNewDocument(() => {
        Object.prototype[Symbol.for('helium-webgpu.means')] = { retries: 1, backoffMs: 100 };
      });
      await find(page, 'textbox', 'Prompt');
      await find(page, 'region', 'Output');
      await find(page, 'progressbar', 'Loading');
      await find(page, 'combobox', 'Model');
      assert.match(await modelName(page), /Helium-1/);
      const before = await page.$eval('[role="status"]', (element) => element.textContent);
      for (const fact of [/1\.24 GB/, /CC-BY-SA 4\.0/, /Gemma terms/]) for (const text of [await facts(page), before]) assert.match(text, fact);
      assert.equal(await disabled(page, 'Stop'), true);
      await look(page, name, 'start');
      await accessible(page);
      if (name === 'chromium') {
        await page.emulateMediaFeatures([{ name: 'prefers-color-scheme', value: 'dark' }]);
        await accessible(page);
        await page.emulateMediaFeatures([]);
      }
      await page.goto(`${server.url}?model=local`);
      assert.match(await facts(page), /98 MB.*Apache-2\.0/);
      await new Promise((resolve) => setTimeout(resolve, 500));
      assert.deepEqual(requests.filter((line) => /\/models\/|damaged|wasm/.test(line)), []);
    });
    if (!opened) return;

    await check(`${name}: an opening in each of the 24 languages`, 60, async () => {
      const openings = await page.$$eval('#samples button', (buttons) => buttons.map((button) => {
        button.click();
        return [button.lang, button.textContent, document.getElementById('prompt').value];
      }));
      assert.equal(openings.length, 24);
      for (const column of [0, 1, 2]) assert.equal(new Set(openings.map((opening) => opening[column])).size, 24);
      assert.ok(openings.every(([, , text]) => text.length > 20 && text === text.normalize('NFC')));
      await (await find(page, 'button', 'Ελληνικά')).click();
      assert.match(await promptText(page), /^Το μικρό νησί/);
      assert.equal(await page.$eval('#prompt', (box) => box.lang), 'el');
      const steps = await page.evaluate(() => {
        let steps = 0;
        for (const undo = document.getElementById('undo'); !undo.disabled && steps < 100; steps += 1) undo.click();
        return steps;
      });
      assert.deepEqual([steps, await promptText(page)], [25, ''], 'undo leads back to the empty sheet');
    });

    await check(`${name}: the page of figures measures a model and its kernels`, 120, async () => {
      const other = await openPage(browser, `${server.url}bench.html?weights=goldens/gguf_Q8_0/model.gguf&prompt-tokens=5&decode-tokens=3&runs=2`);
      await accessible(other);
      await press(other, 'Measure');
      await until('it is done', () => other.$eval('#status', (line) => /^Done\.$/.test(line.textContent)), 110_000);
      const rows = await other.$$eval('#figures tr', (rows) => Object.fromEntries(rows.map(({ cells: [what, value] }) => [what.textContent, value.textContent])));
      for (const what of ['Prefill', 'Decode']) assert.match(rows[what], /^[\d.]+ \([\d.]+–[\d.]+\) tokens a second$/);
      assert.match(rows['Model'], /^model\.gguf, Q8_0/);
      assert.equal(await other.$$eval('#traces caption', (captions) => captions.length), 2);
      await look(other, name, 'bench');
      await noProblems(other);
      // The cases to come know of one kept model.
      await other.evaluate(async () => (await import(new URL('helium/index.js', location))).Helium.deleteCached());
      await other.close();
    });

    await check(`${name}: a network that goes half way is told, and what has arrived is kept`, 60, async () => {
      goneFrom = GONE_FROM;
      await press(page, 'Generate');
      assert.match(await errorText(page), /^The network failed\. .*What has arrived is kept: trying again goes on from there\./);
      page.problems.length = 0; // of lost connections, browsers write lines of their own
      goneFrom = Infinity;
      ranges.length = 0;
    });

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
      await look(page, name, 'writing');
      assert.ok(Math.min(...ranges) >= GONE_FROM, 'the download goes on where it broke off');
      await statusIs(page, /^Done: 6 tokens, \d.* (tokens per second|seconds per token)\.$/, WRITE);
      const seen = await page.evaluate(() => globalThis.seen);
      assert.deepEqual(seen.generate, [true, false], 'whether Generate is disabled, while writing and after');
      assert.ok(seen.status.some((text) => /^Downloading/.test(text)), `statuses: ${seen.status.join(' | ')}`);
      assert.ok(seen.status.includes('Writing…'), `statuses: ${seen.status.join(' | ')}`);
      assert.ok(seen.progress.some((text) => /^\d.* of 98 MB/.test(text)), `progress: ${seen.progress.join(' | ')}`);
      assert.ok(seen.lengths.filter((length) => length > 0).length >= 3, `the text came in too few steps: ${seen.lengths.join(' ')}`);
      assert.equal(await progress(page), 1);
      // One text, of two inks: the box holds all of it, the region the model's part, and the mirror is the same text.
      const written = await outputText(page);
      assert.equal(await promptText(page), `Once upon a time,${written}`);
      assert.equal(await page.$eval('#mirror', (mirror) => mirror.textContent), `Once upon a time,${written}`);
      assert.deepEqual(await page.$eval('#mirror', (mirror) => [mirror.scrollHeight, mirror.clientWidth]), await page.$eval('#prompt', (box) => [box.scrollHeight, box.clientWidth]));
    });

    await check(`${name}: the keyboard starts it, without loading again; Stop ends it, and it stays ended`, WRITE + 30, async () => {
      const before = ranges.length;
      await setTokens(page, 400);
      await (await find(page, 'textbox', 'Prompt')).focus();
      await withControl(page, 'Enter');
      await outputHas(page, (text) => text.length > 0, WRITE);
      await press(page, 'Stop');
      await statusIs(page, /^Stopped after \d+ token/, 30);
      const text = await outputText(page);
      await new Promise((resolve) => setTimeout(resolve, 2000));
      assert.equal(await outputText(page), text);
      assert.equal(await disabled(page, 'Generate'), false);
      assert.equal(await disabled(page, 'Stop'), true);
      assert.equal(ranges.length, before);
    });

    await check(`${name}: a word of the model’s shows its alternatives, and one of them can be taken`, WRITE, async () => {
      await setTokens(page, 2);
      const before = await promptText(page);
      const { start, end } = await page.evaluate(() => {
        const start = document.getElementById('before').textContent.length;
        return { start, end: start + document.getElementById('output').firstChild.textContent.length };
      });
      await (await find(page, 'textbox', 'Prompt')).focus();
      await page.$eval('#prompt', (box, at) => box.setSelectionRange(at, at), end);
      await page.keyboard.press('Shift'); // a key that changes nothing
      assert.match(await page.$eval('#token', (panel) => panel.textContent), /% likely, \d+\.\d bits/);
      const [alternative] = await page.$$('#token .alternative');
      const text = await alternative.evaluate((button) => button.querySelector('.alternative-text').textContent.replaceAll('·', ' ').replaceAll('↵', '\n'));
      await look(page, name, 'token');
      await alternative.click();
      await statusIs(page, /^Done: 2 tokens/, WRITE);
      const after = await promptText(page);
      assert.ok(after.startsWith(before.slice(0, start) + text), JSON.stringify({ before, text, after }));
      assert.ok((await outputText(page)).startsWith(text));
      await (await find(page, 'textbox', 'Prompt')).focus();
      await withControl(page, 'z');
      assert.equal(await promptText(page), before);
      await withControl(page, 'y');
      assert.equal(await promptText(page), after);
      // Another seed for what the model wrote after that word.
      const ranOn = () => page.$eval('#ran-on', (line) => line.textContent);
      const seed = await ranOn();
      await press(page, 'Retry');
      await statusIs(page, /^Done: 2 tokens/, WRITE);
      assert.ok((await promptText(page)).startsWith(before.slice(0, start) + text));
      assert.match(seed, /seed \d+$/);
      assert.notEqual(await ranOn(), seed);
      // What follows the cursor is dropped, the rest kept.
      await page.$eval('#prompt', (box, at) => box.setSelectionRange(at, at), start + text.length);
      await page.keyboard.press('Shift');
      await press(page, 'Keep to cursor');
      assert.equal(await promptText(page), before.slice(0, start) + text);
    });

    await check(`${name}: a text longer than the context says by how much`, 60, async () => {
      await paste(page, 'word '.repeat(4200));
      await press(page, 'Score');
      assert.match(await errorText(page), /^The text is too long\. It has 4\d{3} tokens, and this model sees 4096 at a time\./);
    });

    await check(`${name}: a pasted text is scored word by word`, WRITE, async () => {
      await paste(page, 'The capital of France is Paris.');
      await press(page, 'Score');
      await statusIs(page, /^Scored 7 tokens: perplexity \d+\.\d, \d\.\d bits of surprise each\.$/, WRITE);
      const pieces = await page.$$eval('#mirror span[class]', (spans) => spans.map(({ textContent, className }) => [textContent, className]));
      assert.deepEqual(pieces.map(([text]) => text), ['The', ' capital', ' of', ' France', ' is', ' Paris', '.']);
      assert.ok(pieces.slice(1).every(([, className]) => /\bp[0-4]\b/.test(className)), JSON.stringify(pieces));
      await look(page, name, 'scored');
      await accessible(page);
      await noProblems(page);
    });

    await check(`${name}: a lost graphics card is told, and the text kept`, 90, async () => {
      const text = await promptText(page);
      await loseDevice(browser, page);
      await press(page, 'Generate');
      assert.match(await errorText(page), /^The graphics card was lost\. .*text is kept/);
      assert.equal(await promptText(page), text);
      assert.equal(await progress(page), 0, 'the next Generate loads the model anew');
      await page.reload();
      await paste(page, text);
    });

    await check(`${name}: settings stand in the address, and a link brings them back`, 60, async () => {
      await setField(page, 'spinbutton', 'Temperature', '0');
      await setField(page, 'textbox', 'Stop at', '\\n|The end');
      const hash = () => page.evaluate(() => location.hash);
      assert.equal(new URLSearchParams((await hash()).slice(1)).get('temperature'), '0');
      await page.evaluate(() => {
        navigator.clipboard.writeText = async (text) => {
          globalThis.copied = text;
        };
      });
      await press(page, 'Copy link');
      await statusIs(page, /^Link copied/, 10);
      const link = await page.evaluate(() => globalThis.copied);
      await press(page, 'Copy as code');
      await statusIs(page, /^Code copied/, 10);
      const code = await page.evaluate(() => globalThis.copied);
      for (const part of [/from 'helium-webgpu'/, /weights: "models\/SmolLM2/, /"The capital of France is Paris\."/, /temperature: 0,/, /stop: \["\\n","The end"\]/]) assert.match(code, part);
      await page.goto('about:blank'); // the same page with another # would only be scrolled
      await page.goto(link);
      assert.equal(await promptText(page), 'The capital of France is Paris.');
      for (const [id, value] of [['temperature', '0'], ['stop-at', '\\n|The end'], ['max-tokens', '2']]) {
        assert.equal(await page.$eval(`#${id}`, (input) => input.value), value);
      }
      assert.equal(await page.evaluate(() => document.querySelector('#model').value), 'local');
      await noProblems(page);
    });

    for (const [address, pattern] of [
      ['damaged/truncated.gguf', /^The file is damaged\. .*truncated\.gguf/],
      ['damaged/page.gguf', /^The file is damaged\. .*page\.gguf/],
      ['damaged/missing.gguf', /^The server refused\. .*missing\.gguf.*404.*check the address/],
      ['http://[', /weights: expected a URL/],
    ]) {
      await check(`${name}: ?weights=${address} ends in words, not in a stack`, 90, async () => {
        await page.goto(`${server.url}?weights=${encodeURIComponent(address)}`);
        await (await find(page, 'textbox', 'Prompt')).type('x');
        await press(page, 'Generate');
        assert.match(await errorText(page), pattern);
        await noProblems(page);
      });
    }

    await check(`${name}: a dropped checkpoint is quantised and scores a text, without a request`, LOAD, async () => {
      await page.goto(server.url);
      await drop(page, [...['config.json', 'model.safetensors'].map((file) => [file, { url: `goldens/helium_bf16/${file}` }]), ['tokenizer.json', { url: 'damaged/tokenizer.json' }]]);
      assert.equal(await modelName(page), 'model.safetensors and 2 more');
      requests.length = 0;
      await paste(page, 'abcabc');
      await press(page, 'Score');
      await statusIs(page, /^Scored \d tokens: perplexity \d/, LOAD);
      assert.deepEqual(requests.filter((line) => /goldens|damaged|models\//.test(line)), []);
      await noProblems(page);
    });

    await check(`${name}: dropped files that are no model end in words`, 60, async () => {
      await drop(page, ['config.json', 'model.safetensors', 'tokenizer.json'].map((file) => [file, { text: '{}' }]));
      await paste(page, 'The');
      await press(page, 'Generate');
      assert.match(await errorText(page), /config\.json|model\.safetensors|tokenizer\.json/);
      assert.equal(await promptText(page), 'The', 'the text is kept');
      await noProblems(page);
    });

    await check(`${name}: Stop during the download settles`, 60, async () => {
      await page.goto(`${server.url}?model=local`);
      await until('the page says that the model is kept', async () => /Kept in this browser/.test(await facts(page)));
      await (await find(page, 'textbox', 'Prompt')).type('x');
      // Pressed in one turn of the page, so that the download cannot be over in between.
      await page.evaluate(() => {
        document.getElementById('generate').click();
        document.getElementById('stop').click();
      });
      await statusIs(page, /^Loading was stopped\.$/, 20);
      assert.equal(await disabled(page, 'Generate'), false);
      await page.evaluate(() => {
        document.getElementById('load').click();
        document.getElementById('load').click();
      });
      await statusIs(page, /^Paused\./, 20);
    });

    await check(`${name}: nothing is cut off from phone to wide`, 60, async () => {
      for (const width of [320, 768, 1600]) {
        await page.setViewport({ width, height: 900 });
        await page.goto(`${server.url}?width=${width}#text=${encodeURIComponent('Il était une fois, dans un village au bord de la mer,')}`);
        await page.$$eval('details', (all) => all.forEach((details) => {
          details.open = true;
        }));
        const [scroll, inner] = await page.evaluate(() => [document.documentElement.scrollWidth, document.documentElement.clientWidth]);
        assert.ok(scroll <= inner, `at ${width} px the page is ${scroll} px wide`);
        await shot(page, `width-${width}`);
      }
      await page.setViewport({ width: 1100, height: 900 });
    });

    await check(`${name}: without a network the page opens, writes with a kept model, and deletes it`, LOAD, async () => {
      await page.goto(`${server.url}?model=local`);
      await until('the engine is kept too', () => page.evaluate(async () => {
        const keys = await (await caches.open('helium-page')).keys();
        return keys.some(({ url }) => url.endsWith('.wasm')) && navigator.serviceWorker.controller !== null;
      }), 30_000);
      breaksOff = true;
      await page.reload();
      assert.equal(await page.$eval('.visually-hidden', (element) => getComputedStyle(element).position), 'absolute', 'of a file that breaks off, the kept one serves');
      await server.close();
      await page.reload();
      await find(page, 'textbox', 'Prompt');
      await statusIs(page, /is kept in this browser: Generate downloads nothing\.$/, 15);
      await paste(page, 'The');
      await setTokens(page, 1);
      await press(page, 'Generate');
      await statusIs(page, /^Done: 1 token/, LOAD);
      await page.$eval('#shelf', (details) => {
        details.open = true;
      });
      await press(page, `Delete ${basename(model)}`);
      await statusIs(page, /^SmolLM2.* was deleted\.$/, 15);
      await until('the list is empty', () => page.$eval('#kept-none', (line) => !line.hidden));
      await noProblems(page);
    });
    await page.close();
    await testStates(browser);
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
      await look(page, browser.name, 'no-webgpu');
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
