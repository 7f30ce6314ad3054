#!/usr/bin/env node
/** The daemon's main program. */
import { CommanderError } from 'commander';
import { loadConfig } from '../config/load.js';
import { ConfigError, formatProblem } from '../config/problems.js';
import { isSystemError } from '../native/base.js';
import { Daemon, StartError } from '../service/daemon.js';
import { createLog } from '../service/log.js';
import { checkConfig, formatCheck } from './check.js';
import { DAEMON_EXIT, type DaemonOptions, parseDaemonOptions } from './options.js';

function check(options: DaemonOptions): number {
  const result = checkConfig(options.config);
  process.stdout.write(formatCheck(result));
  return result.ok ? DAEMON_EXIT.ok : DAEMON_EXIT.config;
}

async function run(options: DaemonOptions): Promise<number> {
  const { config, path } = loadConfig(options.config);
  if (options.socket !== undefined) config.daemon.guestSocket = options.socket;
  if (options.bus !== undefined) config.daemon.busSocket = options.bus;
  const log = createLog({
    level: config.daemon.logLevel,
    ...(options.logLevels === undefined ? {} : { levels: options.logLevels }),
  });
  const main = log.module('daemon');
  const { drmDevices, drmFds, dlmLeases } = options;
  const daemon = new Daemon(
    { config, configPath: path, askedPath: options.config, drmDevices, drmFds, dlmLeases },
    log,
  );
  const ended = new Promise<void>((resolve) => {
    for (const signal of ['SIGTERM', 'SIGINT'] as const) process.on(signal, () => resolve());
  });
  process.on(
    'SIGHUP',
    () => void daemon.reload().catch((error: unknown) => main.error({ err: error }, 'reload failed')),
  );
  try {
    await daemon.start();
  } catch (error) {
    if (!(error instanceof StartError) && !isSystemError(error)) throw error;
    main.fatal(error.message);
    await daemon.stop();
    return DAEMON_EXIT.failed;
  }
  await ended;
  await daemon.stop();
  return DAEMON_EXIT.ok;
}

async function main(): Promise<number> {
  try {
    const options = parseDaemonOptions(process.argv.slice(2));
    return options.check ? check(options) : await run(options);
  } catch (error) {
    if (error instanceof CommanderError) return error.exitCode === 0 ? DAEMON_EXIT.ok : DAEMON_EXIT.usage;
    if (!(error instanceof ConfigError)) throw error;
    for (const problem of error.problems) process.stderr.write(`${formatProblem(problem)}\n`);
    return DAEMON_EXIT.config;
  }
}

process.exitCode = await main();
