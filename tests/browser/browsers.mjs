// Headless Chromium and Firefox with WebGPU on a software adapter, driven by one library, and a page's
// elements by role and name as a user of assistive technology finds them.

import { execFileSync, spawn } from 'node:child_process';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import puppeteer from 'puppeteer-core';

const CHROMIUM = ['chromium', 'chromium-browser', 'google-chrome', 'google-chrome-stable', 'microsoft-edge'];
const FIREFOX = ['firefox-esr', 'firefox'];

function executable(variable, names) {
  if (process.env[variable]) return process.env[variable];
  for (const name of names) {
    try {
      return execFileSync('sh', ['-c', `command -v ${name}`], { encoding: 'utf8' }).trim();
    } catch {
      // the next one
    }
  }
  throw new Error(`no ${names.join(' or ')} on the PATH: install one, or name it in the variable ${variable}`);
}

export const BROWSERS = ['chromium', 'firefox'];

const CHROMIUM_ARGS = (webgpu) => [
  '--no-sandbox', // tests run as root in containers
  ...(webgpu ? ['--enable-unsafe-webgpu'] : ['--disable-features=WebGPU', '--disable-gpu', '--disable-blink-features=WebGPU']),
  // A closed network is no error: no calls home.
  '--disable-quic', '--no-first-run', '--disable-background-networking', '--disable-component-update', '--disable-sync',
];

const FIREFOX_PREFS = (webgpu) => ({
  'dom.webgpu.enabled': webgpu,
  'gfx.webgpu.ignore-blocklist': true, // Mesa's software Vulkan is on it
  'app.update.auto': false,
  'datareporting.policy.dataSubmissionEnabled': false,
  // Fetched at some time after a page is there, and told as an error where the page is left in the midst of it.
  'browser.chrome.site_icons': false,
});

/** Opens a page as a visitor does, with nothing that drives the browser, which costs it time; returns what ends it. */
export async function visit(name, url) {
  const profile = await mkdtemp(join(tmpdir(), `helium-${name}-`));
  const prefs = Object.entries(FIREFOX_PREFS(true)).map(([key, value]) => `user_pref(${JSON.stringify(key)}, ${value});\n`);
  await writeFile(join(profile, 'user.js'), prefs.join(''));
  const [command, args] = name === 'chromium'
    ? [executable('CHROMIUM', CHROMIUM), ['--headless', `--user-data-dir=${profile}`, ...CHROMIUM_ARGS(true)]]
    : [executable('FIREFOX', FIREFOX), ['--headless', '--no-remote', '--profile', profile]];
  const child = spawn(command, [...args, url], { stdio: 'ignore', detached: true });
  return async () => {
    const ended = new Promise((resolve) => child.once('exit', resolve));
    process.kill(-child.pid, 'SIGKILL');
    await ended;
    await rm(profile, { recursive: true, force: true, maxRetries: 5 }).catch(() => undefined);
  };
}

/** Starts a browser; without `webgpu`, one as it is where WebGPU is switched off. */
export async function launch(name, { webgpu = true } = {}) {
  const userDataDir = await mkdtemp(join(tmpdir(), `helium-${name}-`));
  const common = {
    headless: true,
    userDataDir,
    timeout: 80_000, // to start
    protocolTimeout: 600_000,
    defaultViewport: { width: 1100, height: 900 },
    // Else the driver has Firefox keep the body of every response, which looks like memory that is lost.
    networkEnabled: false,
  };
  const browser = await puppeteer.launch(
    name === 'chromium'
      ? {
          ...common,
          browser: 'chrome',
          executablePath: executable('CHROMIUM', CHROMIUM),
          args: CHROMIUM_ARGS(webgpu),
        }
      : {
          ...common,
          browser: 'firefox',
          executablePath: executable('FIREFOX', FIREFOX),
          extraPrefsFirefox: FIREFOX_PREFS(webgpu),
        },
  );
  const close = async () => {
    const killer = setTimeout(() => browser.process()?.kill('SIGKILL'), 10_000);
    await browser.close().catch(() => undefined);
    clearTimeout(killer);
    await rm(userDataDir, { recursive: true, force: true, maxRetries: 5 }).catch(() => undefined);
  };
  return { name, browser, close };
}

/** A new page that collects what goes wrong in it: `page.problems` holds uncaught errors and console errors. */
export async function openPage({ browser }, url) {
  const page = await browser.newPage();
  page.problems = [];
  page.on('pageerror', (error) => page.problems.push(String(error.stack ?? error)));
  page.on('console', (message) => {
    // The browser's own line for a 404, say: the tests that cause one look at what the page made of it.
    if (message.type() === 'error' && !/Failed to load resource/.test(message.text())) page.problems.push(message.text());
  });
  await page.goto(url, { waitUntil: 'load', timeout: 60_000 });
  return page;
}

/** The element with this role and accessible name; waits for it to be there. */
export function find(page, role, name, timeout = 15_000) {
  return page.waitForSelector(`aria/${name}[role="${role}"]`, { timeout });
}

export const textOf = (handle) => handle.evaluate((element) => element.textContent);

/** Polls until `read()` gives something true, and returns it; `what` is for the message. */
export async function until(what, read, timeout = 60_000) {
  const end = Date.now() + timeout;
  for (;;) {
    const value = await read();
    if (value) return value;
    if (Date.now() > end) throw new Error(`after ${timeout / 1000} s still not: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
}

/** What a worker's script begins with for `loseDevice` to find its devices. */
export const LOSES_DEVICE = `
  const { requestDevice } = GPUAdapter.prototype;
  const loss = new BroadcastChannel('lose');
  GPUAdapter.prototype.requestDevice = async function (...given) {
    const device = await requestDevice.apply(this, given);
    loss.addEventListener('message', () => device.destroy());
    return device;
  };
`;

/** Takes the GPU away: in Chromium as when its driver crashes; elsewhere no protocol can, and the device is destroyed. */
export async function loseDevice({ name, browser }, page) {
  if (name !== 'chromium') {
    await page.evaluate(() => new BroadcastChannel('lose').postMessage(''));
    return;
  }
  const session = await browser.target().createCDPSession();
  await session.send('Browser.crashGpuProcess').catch(() => undefined);
  await session.detach();
}
