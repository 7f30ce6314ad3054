#!/usr/bin/env node
/** scanoutctl(1): the hand on a running scanoutd. */
import { processIo } from './io.js';
import { run } from './program.js';

// All output is written by now; what still runs, such as a call that nobody waits for, is not worth waiting for.
process.exit(await run(process.argv.slice(2), processIo()));
