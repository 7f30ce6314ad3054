#!/usr/bin/env node
/** scanoutctl(1): the hand on a running scanoutd. */
import { processIo } from './io.js';
import { run } from './program.js';

process.exitCode = await run(process.argv.slice(2), processIo());
