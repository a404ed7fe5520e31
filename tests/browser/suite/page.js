// Hands the cases to a worker and their outcomes to the driver, which calls these two functions.

let worker;

/** One request to the worker; a worker that trapped or hangs is replaced. */
function ask(message, seconds) {
  worker ??= new Worker('worker.js', { type: 'module' });
  const current = worker;
  return new Promise((resolve, reject) => {
    const giveUp = (why) => {
      current.terminate();
      worker = undefined;
      reject(new Error(why));
    };
    const timer = setTimeout(giveUp, seconds * 1000, `not over after ${seconds} s`);
    current.onmessage = ({ data }) => {
      clearTimeout(timer);
      if (data.error === undefined) resolve(data.value);
      else if (data.trapped) giveUp(data.error);
      else reject(new Error(data.error));
    };
    current.onerror = (event) => {
      clearTimeout(timer);
      giveUp(event.message || 'the worker did not start');
    };
    current.postMessage(message);
  });
}

globalThis.listCases = () => ask({}, 60);
globalThis.runCase = (name, seconds) => ask({ name }, seconds);
