/** The commands of scanoutctl for seats and input devices. */
import type { Command } from 'commander';
import type { InputEventDocument } from '../api/documents.js';
import { command, find, type JsonOption, print, type WithDaemon } from './commands.js';
import type { Io } from './io.js';
import { formatInputEvent, formatSeat, formatSeats } from './seat-text.js';

export function addSeatCommands(program: Command, io: Io, withDaemon: WithDaemon): void {
  const style = { color: io.color };
  command(program, 'seats', 'show the seats, or one with its guests and devices', [
    ['scanoutctl seats', 'a line each, and the devices of all of them'],
    ['scanoutctl seats desk', 'one, with how its guests get input'],
    ["scanoutctl seats --json | jq '.[] | {name, guest}'", 'which guest has the input'],
  ])
    .argument('[seat]', 'name of a seat')
    .action(async (name: string | undefined, options: JsonOption) => {
      const { seats, inputDevices } = await withDaemon((daemon) => daemon.describe());
      if (name === undefined) {
        print(io, options, seats, () => formatSeats(seats, inputDevices, style));
        return;
      }
      const seat = find(seats, name, 'seat');
      print(io, options, seat, () => formatSeat(seat, style));
    });
  const seat = program.command('seat').description('switch and lock seats, and give devices to them');
  addSwitch(seat, io, withDaemon);
  addDevices(seat, io, withDaemon);
  addLock(seat, io, withDaemon);
  const input = program.command('input').description('look at what input devices send');
  addWatch(input, io, withDaemon);
}

/** After a change: the seat as it is then. */
async function show(io: Io, options: JsonOption, name: string, withDaemon: WithDaemon): Promise<void> {
  const { seats } = await withDaemon((daemon) => daemon.describe());
  const seat = find(seats, name, 'seat');
  print(io, options, seat, () => formatSeat(seat, { color: io.color }));
}

function addSwitch(seat: Command, io: Io, withDaemon: WithDaemon): void {
  command(seat, 'switch', 'give the input of a seat to a guest, and show it there', [
    ['scanoutctl seat switch desk tv', 'what was pressed is released in the former guest'],
  ])
    .argument('<seat>', 'name of a seat')
    .argument('<guest>', 'name of one of its guests')
    .action(async (name: string, guest: string, options: JsonOption) => {
      await withDaemon((daemon) => daemon.switchSeat(name, guest));
      await show(io, options, name, withDaemon);
    });
}

function addDevices(seat: Command, io: Io, withDaemon: WithDaemon): void {
  command(seat, 'attach', 'give an input device to a seat, until it is unplugged', [
    ['scanoutctl seat attach event7 desk', 'by the name of its node'],
    ['scanoutctl seat attach /dev/input/by-id/usb-ACME_Keyboard-event-kbd desk', 'by a link'],
  ])
    .argument('<device>', 'device node, or a link to one')
    .argument('<seat>', 'name of a seat')
    .action(async (device: string, name: string, options: JsonOption) => {
      await withDaemon((daemon) => daemon.attachDevice(device, name));
      await show(io, options, name, withDaemon);
    });
  command(seat, 'detach', 'have a device where configuration and udev have it', [
    ['scanoutctl seat detach event7', 'takes back what "seat attach" did'],
  ])
    .argument('<device>', 'device node, or a link to one')
    .action(async (device: string, options: JsonOption) => {
      await withDaemon((daemon) => daemon.detachDevice(device));
      const { seats, inputDevices } = await withDaemon((daemon) => daemon.describe());
      print(io, options, seats, () => formatSeats(seats, inputDevices, { color: io.color }));
    });
}

function addLock(seat: Command, io: Io, withDaemon: WithDaemon): void {
  const both = [
    ['lock', true, 'keep the input of a seat from every guest'],
    ['unlock', false, 'give the input of a seat to its guest again'],
  ] as const;
  for (const [name, locked, summary] of both) {
    command(seat, name, summary, [[`scanoutctl seat ${name} desk`, 'nothing happens when it is so already']])
      .argument('<seat>', 'name of a seat')
      .action(async (of: string, options: JsonOption) => {
        await withDaemon((daemon) => daemon.lockSeat(of, locked));
        await show(io, options, of, withDaemon);
      });
  }
}

function addWatch(input: Command, io: Io, withDaemon: WithDaemon): void {
  command(input, 'watch', "show a seat's events as they come, until Ctrl-C", [
    ['scanoutctl input watch desk', 'of keys only that there was one'],
    ['scanoutctl input watch desk --keys', 'which key, too: whatever is typed is seen'],
    ['scanoutctl input watch desk --json', 'one document a line'],
  ])
    .argument('<seat>', 'name of a seat')
    .option('--keys', 'show which keys are pressed')
    .action(async (name: string, options: JsonOption & { keys?: true }) => {
      const tell = (events: InputEventDocument[]) => {
        for (const event of events) {
          io.out(options.json === true ? `${JSON.stringify(event)}\n` : formatInputEvent(event));
        }
      };
      await withDaemon(async (daemon) => {
        await daemon.watchInput(name, options.keys === true, tell);
        await io.terminal.untilEnded(daemon.closed());
      });
    });
}
