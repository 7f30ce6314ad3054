/** What people read of seats and input devices. */
import type { InputDeviceDocument, InputEventDocument, SeatDocument } from '../api/documents.js';
import { bold, count, formatDuration, formatMicros, formatTable, plain, type Style } from './table.js';

export function formatSeats(
  seats: readonly SeatDocument[],
  others: readonly InputDeviceDocument[],
  style: Style,
): string {
  if (seats.length === 0) {
    return 'No seat. The configuration asks for no input; see docs/seats.md.\n';
  }
  const devices = [
    ...seats.flatMap((seat) => seat.devices.map((device) => deviceCells(device, seat.name))),
    ...others.map((device) => deviceCells(device, '-')),
  ];
  const notes = notesOfDevices([...seats.flatMap((seat) => seat.devices), ...others]);
  return [
    formatSeatTable(seats, style),
    `\n${bold('Devices', style)}\n`,
    devices.length === 0 ? 'None.\n' : formatTable(DEVICE_HEAD, devices, style),
    ...notes.map((note) => `  ${plain(note)}\n`),
  ].join('');
}

/** A line each, and what those that are not ready wait for. */
export function formatSeatTable(seats: readonly SeatDocument[], style: Style): string {
  const rows = seats.map((seat) => [
    plain(seat.name),
    stateOf(seat),
    seat.outputs.map(({ name, lit }) => (lit ? name : `${name} (dark)`)).join(', ') || '-',
    seat.guest === null ? '-' : plain(seat.guest),
    seat.guests.map(({ name }) => plain(name)).join(', ') || '-',
    count(seat.devices.filter(({ open }) => open).length, 'device'),
    formatDuration(seat.idleMs),
  ]);
  const head = ['SEAT', 'STATE', 'OUTPUTS', 'GUEST', 'GUESTS', 'DEVICES', 'UNUSED FOR'];
  const waiting = seats.filter(({ ready }) => !ready);
  const notes = waiting.map(({ name, reason }) => `  ${plain(`${name}: waits: ${reason}`)}\n`);
  return formatTable(head, rows, style) + notes.join('');
}

/** One seat, with how its guests get input. */
export function formatSeat(seat: SeatDocument, style: Style): string {
  const rows = seat.guests.flatMap((guest, index) => {
    const cells = [
      String(index + 1),
      plain(guest.name),
      guest.name === seat.guest ? 'has the input' : guest.present ? 'there' : 'not there',
      guest.output ?? '-',
      guest.how,
    ];
    const sinks = guest.sinks.filter(({ open }) => open);
    if (sinks.length === 0) return [[...cells, '-', '-', '-', '-', '-']];
    return sinks.map((sink, i) => [
      ...(i === 0 ? cells : cells.map(() => '')),
      sink.class ?? 'all',
      sink.path || '-',
      String(sink.delivered),
      sink.delivered === 0 ? '-' : formatMicros(sink.latencyUs.p50),
      sink.delivered === 0 ? '-' : formatMicros(sink.latencyUs.p99),
    ]);
  });
  const head = ['#', 'GUEST', 'STATE', 'OUTPUT', 'INPUT BY', 'DEVICE', 'AT', 'EVENTS', 'P50', 'P99'];
  const devices = seat.devices.map((device) => deviceCells(device, seat.name));
  const slow = seat.guests.flatMap(({ name, sinks }) =>
    sinks
      .filter(({ merged, dropped }) => merged + dropped > 0)
      .map((sink) => `${name}: slow: ${sink.merged} events put together, ${sink.dropped} given up`),
  );
  const notes = [...(seat.ready ? [] : [`waits: ${seat.reason}`]), ...slow, ...notesOfDevices(seat.devices)];
  const origin = seat.automatic
    ? ', as udev says'
    : seat.udevSeat === seat.name
      ? ''
      : `, ${seat.udevSeat} of udev`;
  return [
    `${bold(plain(seat.name), style)}: ${stateOf(seat)}${origin}; pointer by ${seat.pointer}; `,
    `outputs: ${seat.outputs.map(({ name }) => name).join(', ') || 'none'}\n\n`,
    rows.length === 0 ? 'No guest.\n' : formatTable(head, rows, style),
    devices.length === 0 ? '\nNo device.\n' : `\n${formatTable(DEVICE_HEAD, devices, style)}`,
    ...notes.map((note) => `  ${plain(note)}\n`),
  ].join('');
}

/** One line, such as "12.345678 event3 pointer tv: REL 0 -2". */
export function formatInputEvent(event: InputEventDocument): string {
  const { timeUs, device, guest, class: of, type, code, value } = event;
  const name = device.replace('/dev/input/', '') || '-';
  const what = `${TYPES[type] ?? `type ${type}`} ${code === null ? '(hidden)' : code} ${value}`;
  return `${(timeUs / 1e6).toFixed(6)} ${plain(name)} ${of} ${guest === null ? '-' : plain(guest)}: ${what}\n`;
}

const TYPES: Readonly<Record<number, string>> = {
  0: 'SYN',
  1: 'KEY',
  2: 'REL',
  3: 'ABS',
  4: 'MSC',
  5: 'SW',
  17: 'LED',
};

const DEVICE_HEAD = ['DEVICE', 'SEAT', 'BY', 'CLASS', 'ID', 'READ', 'NAME', 'PHYS'];

function deviceCells(device: InputDeviceDocument, seat: string): string[] {
  const { device: path, by, class: of, id, read, grab, name, phys } = device;
  const how = read === null ? 'not open' : `${read}${grab ? ', grabbed' : ''}`;
  return [path, plain(seat), by, of ?? '-', id, how, plain(name), plain(phys) || '-'];
}

function stateOf({ locked, idle, ready }: SeatDocument): string {
  if (locked) return 'locked';
  if (!ready) return 'waits';
  return idle ? 'idle' : 'ready';
}

function notesOfDevices(devices: readonly InputDeviceDocument[]): string[] {
  return devices.filter(({ open }) => !open).map(({ device, reason }) => `${device}: not open: ${reason}`);
}
