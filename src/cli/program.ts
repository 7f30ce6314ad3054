/** The commands of scanoutctl: what they are called, what they take, what they print. */
import { Command, CommanderError, InvalidArgumentError, Option } from 'commander';
import type { AssignRequest, GuestDocument, StatusDocument } from '../api/documents.js';
import { jsonSchemaText } from '../config/json-schema.js';
import type { Fd } from '../native/base.js';
import { checkConfig, formatCheck } from './check.js';
import { type Connection, chooseBus, DEFAULT_BUS } from './connection.js';
import { CliError, EXIT, formatError } from './errors.js';
import { formatCommand, planGuest, runGuest } from './guest-run.js';
import type { Io } from './io.js';
import { planLeaseRun } from './lease-run.js';
import { parseArea } from './table.js';
import {
  formatGuest,
  formatGuests,
  formatLeases,
  formatOutput,
  formatOutputs,
  formatPlacement,
  formatStatus,
} from './text.js';
import { runTop } from './top.js';
import { VERSION } from './version.js';

interface JsonOption {
  json?: boolean;
}

const EXIT_HELP = `
Exit status:
  0   done
  1   the daemon refused, or what was checked is wrong
  2   wrong use of the command line
  3   no daemon at the bus
  78  what "guest run" or "lease run" is to start is wrong; else they end as their program does

Environment:
  SCANOUTD_BUS  path of the bus socket, when there is no --bus
  NO_COLOR      no colours, on terminals too
`;

/** Runs one command line (without program name) and returns its exit code. Only bugs are thrown. */
export async function run(args: readonly string[], io: Io): Promise<number> {
  let code: number = EXIT.ok;
  const program = buildProgram(io, (refused) => {
    code = refused;
  });
  try {
    await program.parseAsync(args, { from: 'user' });
    return code;
  } catch (error) {
    if (error instanceof CommanderError) {
      // Help that was asked for is no error; commander has written what there is to say in either case.
      return error.exitCode === 0 ? EXIT.ok : EXIT.usage;
    }
    if (error instanceof CliError) {
      io.error(formatError(error));
      return error.exitCode;
    }
    throw error;
  }
}

function buildProgram(io: Io, exitWith: (code: number) => void): Command {
  const program = new Command('scanoutctl');
  program
    .description('See and change what scanoutd shows.')
    .version(VERSION, '-V, --version', 'print the version')
    .helpOption('-h, --help', 'print help')
    .addOption(new Option('--bus <path>', `socket of the daemon (default: ${DEFAULT_BUS})`))
    .option('--system', 'reach the daemon over the system bus')
    .addHelpText('after', EXIT_HELP)
    .showHelpAfterError('Try `scanoutctl --help`, or `scanoutctl COMMAND --help`.')
    .exitOverride()
    .configureOutput({ writeOut: (text) => io.out(text), writeErr: (text) => io.error(text) });
  const withDaemon: WithDaemon = async (use) => {
    const connection = await io.connect(chooseBus(program.opts(), io.env));
    try {
      return await use(connection);
    } finally {
      connection.close();
    }
  };
  addShowCommands(program, io, withDaemon);
  addChangeCommands(program, io, withDaemon);
  addQemu(program, io, withDaemon);
  addGuest(program, io);
  addLeases(program, io, withDaemon, exitWith);
  addScreenshot(program, io, withDaemon);
  addTop(program, io, withDaemon);
  addCheck(program, io, exitWith);
  return program;
}

type WithDaemon = <T>(use: (connection: Connection) => Promise<T>) => Promise<T>;

function addShowCommands(program: Command, io: Io, withDaemon: WithDaemon): void {
  const style = { color: io.color };
  command(program, 'status', 'show cards, outputs and guests', [
    ['scanoutctl status', 'all there is to see'],
    ["scanoutctl status --json | jq '.outputs[].name'", 'names of the outputs'],
  ]).action(async (options: JsonOption) => {
    const status = await withDaemon((daemon) => daemon.describe());
    print(io, options, status, () => formatStatus(status, style));
  });
  command(program, 'outputs', 'show the outputs, or one with its modes', [
    ['scanoutctl outputs', 'a line each'],
    ['scanoutctl outputs HDMI-A-1', 'one, with its modes'],
  ])
    .argument('[output]', 'name of a connector')
    .action(async (name: string | undefined, options: JsonOption) => {
      const { outputs } = await withDaemon((daemon) => daemon.describe());
      if (name === undefined) {
        print(io, options, outputs, () => formatOutputs(outputs, style));
        return;
      }
      const output = find(outputs, name, 'output');
      print(io, options, output, () => formatOutput(output, style));
    });
  command(program, 'guests', 'show the guests, or one with its latencies', [
    ['scanoutctl guests', 'a line for each plane'],
    ['scanoutctl guests tv', 'one, with all counters'],
  ])
    .argument('[guest]', 'name of a guest')
    .action(async (name: string | undefined, options: JsonOption) => {
      const { guests } = await withDaemon((daemon) => daemon.describe());
      if (name === undefined) {
        print(io, options, guests, () => formatGuests(guests, style));
        return;
      }
      const guest = find(guests, name, 'guest');
      print(io, options, guest, () => formatGuest(guest, style));
    });
}

function addChangeCommands(program: Command, io: Io, withDaemon: WithDaemon): void {
  const change = async (name: string, options: JsonOption, use: (daemon: Connection) => Promise<void>) => {
    const status = await withDaemon(async (daemon) => {
      await use(daemon);
      return daemon.describe();
    });
    const guest = guestAfter(status, name);
    print(io, options, guest, () => (guest === null ? `${name}: not connected\n` : formatPlacement(guest)));
  };
  command(program, 'assign', 'show a guest on an output', [
    ['scanoutctl assign tv HDMI-A-1', 'on the whole output'],
    ['scanoutctl assign tv HDMI-A-1 --area 640x360+20+20', 'in a part of it, such as above another guest'],
    ['scanoutctl assign tv --plane overlay', 'wherever there is an overlay plane'],
  ])
    .argument('<guest>', 'name of a guest')
    .argument(
      '[output]',
      'name of a connector, or of an [[output]] of the configuration; the planner chooses if absent',
    )
    .option('--area <WxH+X+Y>', 'part of the output, in pixels; the whole output if absent', readArea)
    .option('--plane <plane>', 'auto, primary, overlay, cursor, or the id of a hardware plane', readPlane)
    .action(async (name: string, output: string | undefined, options: JsonOption & AssignRequest) => {
      const { area, plane } = options;
      const request: AssignRequest = {
        ...(output === undefined ? {} : { output }),
        ...(area === undefined ? {} : { area }),
        ...(plane === undefined ? {} : { plane }),
      };
      await change(name, options, (daemon) => daemon.assign(name, request));
    });
  command(program, 'unassign', 'take a guest off its output', [
    ['scanoutctl unassign tv', 'the guest goes on, unseen'],
  ])
    .argument('<guest>', 'name of a guest')
    .action(async (name: string, options: JsonOption) => {
      await change(name, options, (daemon) => daemon.unassign(name));
    });
}

function addQemu(program: Command, io: Io, withDaemon: WithDaemon): void {
  const qemu = program.command('qemu').description('show virtual machines that QEMU runs');
  command(qemu, 'attach', "show a running QEMU's screen by its D-Bus display (-display dbus,p2p=on)", [
    [
      'scanoutctl qemu attach tv --qmp /run/tv.qmp',
      'its first console as guest tv, others as tv.1 and so on',
    ],
  ])
    .argument('<guest>', 'name of the guest')
    .requiredOption('--qmp <path>', 'socket of a QMP monitor that nobody else has open')
    .action(async (name: string, options: JsonOption & { qmp: string }) => {
      const status = await withDaemon(async (daemon) => {
        const socket = await openDisplay(io, options.qmp);
        try {
          await daemon.attachQemu(name, socket);
        } finally {
          socket.close();
        }
        return daemon.describe();
      });
      const guest = guestAfter(status, name);
      print(io, options, guest, () => (guest === null ? `${name}: not connected\n` : formatPlacement(guest)));
    });
}

interface RunOptions extends JsonOption {
  config?: string;
  wait: number;
  dryRun?: boolean;
}

function addGuest(program: Command, io: Io): void {
  const guest = program.command('guest').description('start guests');
  command(guest, 'run', 'become the program that the configuration has as the command of a guest', [
    ['scanoutctl guest run desk', 'in this terminal; the unit scanoutd-guest@desk does it under systemd'],
    ['scanoutctl guest run desk --dry-run', 'print the command that would be run'],
  ])
    .argument('<guest>', 'name of a [[guest]] with a command')
    .option('-c, --config <file>', 'configuration, in place of the one that the daemon reads by default')
    .option(
      '--wait <seconds>',
      'how long to wait for the daemon, where it has to be there first',
      readWait,
      30,
    )
    .option('--dry-run', 'print the command and end')
    .action(async (name: string, { config, wait, dryRun, json }: RunOptions) => {
      const start = planGuest(name, config);
      if (dryRun === true) {
        const { waitFor: _, ...document } = start;
        print(io, json === undefined ? {} : { json }, document, () => formatCommand(start.argv));
        return;
      }
      if (json === true) {
        throw new CliError(
          EXIT.usage,
          '--json is for --dry-run',
          'The output is that of the guest otherwise.',
        );
      }
      await runGuest(start, wait, io.programs);
    });
}

async function openDisplay(io: Io, monitor: string): Promise<Fd> {
  try {
    return await io.openQemuDisplay(monitor);
  } catch (error) {
    const advice = 'QEMU needs -display dbus,p2p=on and -qmp unix:PATH,server=on,wait=off.';
    throw new CliError(EXIT.refused, `no display of QEMU: ${(error as Error).message}`, advice);
  }
}

function addScreenshot(program: Command, io: Io, withDaemon: WithDaemon): void {
  command(program, 'screenshot', 'save a PNG of what an output shows', [
    ['scanoutctl screenshot HDMI-A-1', 'to a file named after output and time'],
    ['scanoutctl screenshot HDMI-A-1 -o - | wc -c', 'to stdout'],
  ])
    .argument('<output>', 'name of a connector')
    .option('-o, --output <file>', 'file to write, or - for stdout')
    .action(async (name: string, options: JsonOption & { output?: string }) => {
      const file = options.output ?? `${name.replaceAll('/', '_')}-${timestamp(io.terminal.now())}.png`;
      if (file === '-' && options.json === true) {
        const advice = 'Name a file, or leave out --json.';
        throw new CliError(EXIT.usage, '--json and the picture cannot both go to stdout', advice);
      }
      const { png, document } = await withDaemon((daemon) => daemon.screenshot(name));
      if (file === '-') {
        io.out(png);
        return;
      }
      save(io, file, png);
      const { width, height, how } = document;
      const source = how === 'writeback' ? 'by writeback' : "composed from the planes' framebuffers";
      print(io, options, { file, ...document }, () => `${file}: ${name}, ${width}x${height}, ${source}\n`);
    });
}

function addTop(program: Command, io: Io, withDaemon: WithDaemon): void {
  command(program, 'top', 'show flips and latencies, second by second', [
    ['scanoutctl top', 'until Ctrl-C'],
    ['scanoutctl top --once', 'one second, then end'],
    ['scanoutctl top --json', 'one document a line'],
  ])
    .option('--interval <seconds>', 'time between two tables', readInterval, 1)
    .option('--once', 'end after the first table that has rates')
    .action(async (options: JsonOption & { interval: number; once?: boolean }) => {
      const { json = false, once = false, interval } = options;
      await withDaemon((daemon) =>
        runTop(() => daemon.describe(), io.terminal, { intervalMs: interval * 1000, once, json }),
      );
    });
}

function addLeases(program: Command, io: Io, withDaemon: WithDaemon, exitWith: (code: number) => void): void {
  command(program, 'leases', 'show the leases, and who has them', [
    ['scanoutctl leases', 'a line each'],
    ['scanoutctl leases --json | jq \'.[] | select(.state == "leased")\'', 'those that somebody has'],
  ]).action(async (options: JsonOption) => {
    const { leases } = await withDaemon((daemon) => daemon.describe());
    print(io, options, leases, () => formatLeases(leases, { color: io.color }));
  });
  const lease = program.command('lease').description('lease outputs to programs that drive them themselves');
  command(lease, 'run', 'run a program that inherits a lease, which lasts as long as it', [
    [
      'scanoutctl lease run desk -- flutter-pi --drm-fd {fd} app',
      'the number of the descriptor in an argument',
    ],
    ['scanoutctl lease run desk --fd-env SLINT_DRM_LEASE_FD -- demo', 'in a variable of that name'],
  ])
    .argument('<lease>', 'name of a [[lease]]')
    .argument('<program...>', 'the program and its arguments, after --')
    .option('--fd-env <name>', 'variable that has the number of the descriptor', 'SCANOUTD_LEASE_FD')
    .action(async (name: string, words: string[], options: JsonOption & { fdEnv: string }) => {
      if (options.json === true) {
        throw new CliError(EXIT.usage, '--json is not for lease run', 'The output is that of the program.');
      }
      const start = planLeaseRun(words, name, options.fdEnv);
      await withDaemon(async (daemon) => {
        const { fd } = await daemon.takeLease(name);
        try {
          exitWith(await io.runWithLease(start, fd));
        } finally {
          fd.close();
          // One that was revoked meanwhile is not ours to give back.
          await daemon.releaseLease(name).catch(() => {});
        }
      });
    });
  command(lease, 'revoke', 'take a lease from whoever has it', [
    ['scanoutctl lease revoke desk --reason "the room is closed"', "its outputs are the daemon's again"],
  ])
    .argument('<lease>', 'name of a [[lease]]')
    .option('--reason <text>', 'what its lessee is told, and the log', 'revoked by an administrator')
    .action(async (name: string, options: JsonOption & { reason: string }) => {
      const { leases } = await withDaemon(async (daemon) => {
        await daemon.revokeLease(name, options.reason);
        return daemon.describe();
      });
      print(io, options, find(leases, name, 'lease'), () => formatLeases(leases, { color: io.color }));
    });
}

function addCheck(program: Command, io: Io, exitWith: (code: number) => void): void {
  command(program, 'check', 'check a configuration as the daemon would, without one', [
    ['scanoutctl check', 'the file that the daemon reads by default'],
    ['scanoutctl check ./scanoutd.toml', 'another one'],
    ['scanoutctl check --schema > scanoutd.schema.json', 'a JSON Schema for editors'],
  ])
    .argument('[file]', 'configuration')
    .option('--schema', 'print the JSON Schema of configurations instead')
    .action((file: string | undefined, options: JsonOption & { schema?: boolean }) => {
      if (options.schema === true) {
        io.out(jsonSchemaText());
        return;
      }
      const check = checkConfig(file);
      if (!check.ok) {
        exitWith(EXIT.refused);
      }
      if (options.json === true) {
        io.out(`${JSON.stringify(check, null, 2)}\n`);
      } else if (check.ok) {
        io.out(formatCheck(check));
      } else {
        io.error(formatCheck(check));
      }
    });
}

function command(program: Command, name: string, summary: string, examples: [string, string][]): Command {
  const width = Math.max(...examples.map(([line]) => line.length));
  const lines = examples.map(([line, what]) => `  ${line.padEnd(width)}  ${what}\n`);
  return program
    .command(name)
    .description(summary)
    .helpOption('-h, --help', 'print help')
    .option('--json', 'print the JSON document instead of text')
    .allowExcessArguments(false)
    .addHelpText('after', `\nExamples:\n${lines.join('')}`);
}

function print(io: Io, options: JsonOption, document: unknown, text: () => string): void {
  io.out(options.json === true ? `${JSON.stringify(document, null, 2)}\n` : text());
}

function find<T extends { name: string }>(list: readonly T[], name: string, what: string): T {
  const found = list.find((item) => item.name === name);
  if (found === undefined) {
    const names = list.map((item) => item.name).join(', ');
    throw new CliError(
      EXIT.refused,
      `no ${what} "${name}"`,
      `There ${names === '' ? 'is none' : `are ${names}`}.`,
    );
  }
  return found;
}

function guestAfter(status: StatusDocument, name: string): GuestDocument | null {
  return status.guests.find((guest) => guest.name === name) ?? null;
}

function save(io: Io, file: string, png: Buffer): void {
  try {
    io.writeFile(file, png);
  } catch (error) {
    const advice = 'Name another file with -o.';
    throw new CliError(EXIT.refused, `cannot write ${file}: ${(error as Error).message}`, advice);
  }
}

/** `20261121-084134`, UTC, sortable. */
function timestamp(at: number): string {
  return new Date(at).toISOString().slice(0, 19).replace(/[-:]/g, '').replace('T', '-');
}

function readArea(text: string): NonNullable<AssignRequest['area']> {
  const area = parseArea(text);
  if (area === null) {
    throw new InvalidArgumentError('It is WIDTHxHEIGHT+X+Y, in pixels, such as 640x360+20+20.');
  }
  return area;
}

function readPlane(text: string): NonNullable<AssignRequest['plane']> {
  if (text === 'auto' || text === 'primary' || text === 'overlay' || text === 'cursor') {
    return text;
  }
  if (!/^[1-9][0-9]{0,9}$/.test(text) || Number(text) > 0xffffffff) {
    throw new InvalidArgumentError('It is auto, primary, overlay, cursor, or the id of a plane.');
  }
  return Number(text);
}

function readWait(text: string): number {
  const seconds = Number(text);
  if (text.trim() === '' || !(seconds >= 0 && seconds <= 86400)) {
    throw new InvalidArgumentError('It is a number of seconds from 0 to 86400.');
  }
  return seconds;
}

function readInterval(text: string): number {
  const seconds = Number(text);
  if (!(seconds >= 0.1 && seconds <= 3600)) {
    throw new InvalidArgumentError('It is a number of seconds from 0.1 to 3600.');
  }
  return seconds;
}
