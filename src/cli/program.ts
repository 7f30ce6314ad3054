/** The command line of scanoutctl, and the commands that look: what they are called, what they take, what they print. */
import { Command, CommanderError, InvalidArgumentError, Option } from 'commander';
import { jsonSchemaText } from '../config/json-schema.js';
import { checkConfig, formatCheck } from './check.js';
import { command, type ExitWith, find, type JsonOption, print, type WithDaemon } from './commands.js';
import { chooseBus, DEFAULT_BUS } from './connection.js';
import { CliError, EXIT, formatError } from './errors.js';
import { addGuestCommands } from './guest-commands.js';
import type { Io } from './io.js';
import { addLeaseCommands } from './lease-commands.js';
import { addSeatCommands } from './seat-commands.js';
import { formatGuest, formatGuests, formatOutput, formatOutputs, formatStatus } from './text.js';
import { runTop } from './top.js';
import { VERSION } from './version.js';

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

function buildProgram(io: Io, exitWith: ExitWith): Command {
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
  addGuestCommands(program, io, withDaemon);
  addLeaseCommands(program, io, withDaemon, exitWith);
  addSeatCommands(program, io, withDaemon);
  addScreenshot(program, io, withDaemon);
  addTop(program, io, withDaemon);
  addCheck(program, io, exitWith);
  return program;
}

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

function addCheck(program: Command, io: Io, exitWith: ExitWith): void {
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

function readInterval(text: string): number {
  const seconds = Number(text);
  if (!(seconds >= 0.1 && seconds <= 3600)) {
    throw new InvalidArgumentError('It is a number of seconds from 0.1 to 3600.');
  }
  return seconds;
}
