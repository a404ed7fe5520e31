// A list of named cases, each with a hard time limit, run one after another with one line each. Not
// node:test, since the engine's cases are known only once a browser has listed them.

let passed = 0;
const failures = [];

/** Runs one case; `limit` is in seconds. A failure is reported and counted, and the run goes on. */
export async function check(name, limit, body) {
  const started = Date.now();
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`not over after ${limit} s`)), limit * 1000);
  });
  try {
    await Promise.race([body(), late]);
    passed += 1;
    console.log(`ok    ${name} (${((Date.now() - started) / 1000).toFixed(1)} s)`);
    return true;
  } catch (error) {
    failures.push(name);
    console.log(`FAIL  ${name}\n      ${String(error?.stack ?? error).replaceAll('\n', '\n      ')}`);
    return false;
  } finally {
    clearTimeout(timer);
  }
}

/** Prints the totals and gives the exit status. */
export function finish() {
  for (const name of failures) console.log(`failed: ${name}`);
  console.log(`${passed} passed, ${failures.length} failed`);
  return failures.length === 0 && passed > 0 ? 0 : 1;
}
