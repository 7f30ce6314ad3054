/** The commands of scanoutctl that start guests and say where they are shown. */
import { type Command, InvalidArgumentError } from 'commander';
import type { AssignRequest, GuestDocument, StatusDocument } from '../api/documents.js';
import { withDescriptor } from '../config/command.js';
import type { Fd } from '../native/base.js';
import { command, type JsonOption, print, type WithDaemon } from './commands.js';
import type { Connection } from './connection.js';
import { CliError, EXIT } from './errors.js';
import { formatCommand, planGuest, runGuest } from './guest-run.js';
import type { Io } from './io.js';
import { parseArea } from './table.js';
import { formatPlacement } from './text.js';

export function addGuestCommands(program: Command, io: Io, withDaemon: WithDaemon): void {
  addChangeCommands(program, io, withDaemon);
  addQemu(program, io, withDaemon);
  addGuest(program, io);
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
        const { waitFor: _, ...rest } = start;
        const document = { ...rest, argv: withDescriptor(rest.argv, '{fd}') };
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

function guestAfter(status: StatusDocument, name: string): GuestDocument | null {
  return status.guests.find((guest) => guest.name === name) ?? null;
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
