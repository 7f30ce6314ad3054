/** The command line of scanoutd, the daemon. What it does with the options is scanoutd.ts. */
import { Command, InvalidArgumentError, Option } from 'commander';
import { DEFAULT_CONFIG_PATH } from '../config/load.js';
import { type LogLevels, parseLogLevels } from '../service/log.js';
import { VERSION } from './version.js';

/** Exit codes of the daemon. The unit does not restart it after `usage` and `config`. */
export const DAEMON_EXIT = {
  ok: 0,
  /** It started, or tried to, and failed: the log says why. */
  failed: 1,
  usage: 2,
  /** The configuration is wrong (EX_CONFIG of sysexits.h, which systemd knows by this number). */
  config: 78,
} as const;

export interface DaemonOptions {
  /** Absent: the default path, which may be missing. */
  config?: string;
  /** Cards to take, and no others, whatever the configuration says. Empty: as the configuration says. */
  drmDevices: string[];
  /** Numbers of descriptors of cards that the daemon was started with. */
  drmFds: number[];
  /** Names of leases to ask a drm-lease-manager for. */
  dlmLeases: string[];
  /** Overrides `daemon.guest_socket`. */
  socket?: string;
  /** Overrides `daemon.bus_socket`. */
  bus?: string;
  /** From --log-level, else from SCANOUTD_LOG; absent: as the configuration says. */
  logLevels?: LogLevels;
  /** Check the configuration and end. */
  check: boolean;
}

const HELP = `
Environment: SCANOUTD_LOG, LIBSEAT_BACKEND, SEATD_SOCK, DLM_RUNTIME_PATH, and what systemd sets; see docs/env.md.

Signals:
  SIGHUP            read the configuration again
  SIGTERM, SIGINT   end, guests keep their buffers

Exit status:
  0   ended as asked, or the configuration is right (--check)
  1   failed; the log says why
  2   wrong use of the command line
  78  the configuration is wrong
`;

/** The description of the command line, for parsing and for help. */
export function daemonCommand(): Command {
  return new Command('scanoutd')
    .description('Puts guest framebuffers straight onto display hardware planes.')
    .version(VERSION, '-V, --version', 'print the version')
    .helpOption('-h, --help', 'print help')
    .option(
      '-c, --config <file>',
      `configuration, which must be there (default: ${DEFAULT_CONFIG_PATH}, which need not)`,
    )
    .option('--drm-device <path>', 'take this card and no others; may be repeated', collect, [] as string[])
    .option(
      '--drm-fd <number>',
      'take the card that this descriptor is of, which may be a lease, and leave its DRM master to whoever passed it; may be repeated',
      collectFd,
      [] as number[],
    )
    .option(
      '--dlm-lease <name>',
      'take this lease of a drm-lease-manager; may be repeated',
      collect,
      [] as string[],
    )
    .option('--socket <path>', 'socket for guests')
    .option('--bus <path>', 'socket for scanoutctl')
    .addOption(
      new Option('--log-level <level>', 'LEVEL, MODULE=LEVEL, or several with commas: fatal to trace')
        .env('SCANOUTD_LOG')
        .argParser(readLevels),
    )
    .option('--check', 'check the configuration, print what is wrong, and end')
    .allowExcessArguments(false)
    .addHelpText('after', HELP)
    .showHelpAfterError('Try `scanoutd --help`.')
    .exitOverride();
}

/**
 * Parses the arguments that follow the program's name.
 *
 * Throws commander's CommanderError, which has been printed: with exit code 0 for help and version, else for wrong use.
 */
export function parseDaemonOptions(args: readonly string[]): DaemonOptions {
  const options = daemonCommand().parse(args, { from: 'user' }).opts();
  return {
    ...(options.config === undefined ? {} : { config: options.config }),
    drmDevices: options.drmDevice,
    drmFds: options.drmFd,
    dlmLeases: options.dlmLease,
    ...(options.socket === undefined ? {} : { socket: options.socket }),
    ...(options.bus === undefined ? {} : { bus: options.bus }),
    ...(options.logLevel === undefined ? {} : { logLevels: options.logLevel }),
    check: options.check === true,
  };
}

function collect(value: string, before: string[]): string[] {
  return [...before, value];
}

function collectFd(text: string, before: number[]): number[] {
  const number = Number(text);
  if (!/^[0-9]+$/.test(text) || number < 3 || number > 0x7fffffff)
    throw new InvalidArgumentError('The number of a descriptor, 3 or higher.');
  if (before.includes(number)) throw new InvalidArgumentError(`Descriptor ${number} is named twice.`);
  return [...before, number];
}

function readLevels(text: string): LogLevels {
  try {
    return parseLogLevels(text);
  } catch (error) {
    throw new InvalidArgumentError((error as Error).message);
  }
}
