/**
 * Keeps a program's JS thread busy: `node --import burn.js PROGRAM`. SIGUSR2 begins and ends it. It stands for whatever
 * keeps JavaScript from its loop, such as a large reply, a reload or a garbage collection.
 */
const BUSY_MS = 4;
const EVERY_MS = 10;

let timer: NodeJS.Timeout | null = null;

function burn(): void {
  for (const end = performance.now() + BUSY_MS; performance.now() < end; );
}

process.on('SIGUSR2', () => {
  if (timer !== null) clearInterval(timer);
  timer = timer === null ? setInterval(burn, EVERY_MS) : null;
});

export {};
