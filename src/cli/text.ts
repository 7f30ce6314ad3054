/** What people read, made of the documents that programs read. */
import type {
  CardDocument,
  GuestDocument,
  GuestPlaneDocument,
  LeaseDocument,
  OutputDocument,
  SessionDocument,
  StatusDocument,
} from '../api/documents.js';
import { formatSeatTable } from './seat-text.js';
import {
  bold,
  count,
  formatArea,
  formatDuration,
  formatMicros,
  formatMode,
  formatTable,
  plain,
  type Style,
} from './table.js';

export function formatStatus(status: StatusDocument, style: Style): string {
  const { version, pid, uptimeMs, config } = status;
  return [
    `scanoutd ${plain(version)}, process ${pid}, up ${formatDuration(uptimeMs)}\n`,
    `configuration: ${config === null ? 'none, the defaults hold' : plain(config)}\n`,
    `session: ${formatSession(status.session)}\n`,
    `\n${bold('Cards', style)}\n${formatCards(status.cards, style)}`,
    `\n${bold('Outputs', style)}\n${formatOutputs(status.outputs, style)}`,
    `\n${bold('Guests', style)}\n${formatGuests(status.guests, style)}`,
    status.seats.length === 0 ? '' : `\n${bold('Seats', style)}\n${formatSeatTable(status.seats, style)}`,
    status.leases.length === 0 ? '' : `\n${bold('Leases', style)}\n${formatLeases(status.leases, style)}`,
  ].join('');
}

function formatSession({ kind, seat, reason }: SessionDocument): string {
  return `${kind}${seat === null ? '' : `, ${plain(seat)}`} (${plain(reason)})`;
}

export function formatCards(cards: readonly CardDocument[], style: Style): string {
  if (cards.length === 0) {
    return 'No card. Is there one in /dev/dri, and may the daemon open it? Its log says what it tried.\n';
  }
  const rows = cards.map((card) => [
    card.path,
    card.driver,
    card.paused ? 'paused: not master' : 'active',
    `${card.master.source}${card.master.detail === '' ? '' : `, ${plain(card.master.detail)}`}`,
    card.realtime ? 'real-time' : 'ordinary',
    `${card.framebuffers.live} live, ${count(card.framebuffers.imports, 'import')}`,
  ]);
  const notes = cards.flatMap((card) => [
    ...(card.paused && card.pausedReason !== '' ? [`${card.path}: paused: ${plain(card.pausedReason)}`] : []),
    ...(!card.realtime && card.realtimeReason !== ''
      ? [`${card.path}: no real-time priority: ${card.realtimeReason}`]
      : []),
  ]);
  const head = ['CARD', 'DRIVER', 'STATE', 'MASTER BY', 'SCHEDULING', 'FRAMEBUFFERS'];
  return formatTable(head, rows, style) + formatNotes(notes);
}

export function formatOutputs(outputs: readonly OutputDocument[], style: Style): string {
  if (outputs.length === 0) {
    return 'No output. A card without connectors, or no card, is taken.\n';
  }
  const rows = outputs.map((output) => [
    output.name,
    output.card,
    monitorOf(output),
    output.mode === null ? '-' : formatMode(output.mode),
    stateOf(output),
    output.policy,
    output.guests.join(', ') || '-',
    String(output.flips),
    String(output.missed),
  ]);
  const head = ['OUTPUT', 'CARD', 'MONITOR', 'MODE', 'STATE', 'POLICY', 'GUESTS', 'FLIPS', 'MISSED'];
  return formatTable(head, rows, style) + formatNotes(outputs.flatMap(notesOfOutput));
}

/** One output with everything that is known of it. */
export function formatOutput(output: OutputDocument, style: Style): string {
  const modes = output.modes.map((mode) => `  ${formatMode(mode)}${mode.preferred ? ' (preferred)' : ''}`);
  return [
    formatOutputs([output], style),
    `crtc: ${output.crtc ?? 'none'}\n`,
    `screenshots: ${output.writeback ? 'by writeback' : 'composed from the planes'}\n`,
    `modes:${modes.length === 0 ? ' none' : ''}\n`,
    ...modes.map((mode) => `${mode}\n`),
  ].join('');
}

export function formatGuests(guests: readonly GuestDocument[], style: Style): string {
  if (guests.length === 0) {
    return 'No guest. Guests connect to the guest socket; see docs/guest-protocol.md.\n';
  }
  const rows = guests.flatMap((guest) => {
    const { name, kind, output, mode, lease } = guest;
    const outputs = lease === null ? output : lease.outputs.map(plain).join(', ') || null;
    const on = [outputs ?? '-', mode === null ? '-' : formatMode(mode), areaOf(guest)];
    const place = [name, kind, connectionOf(guest), ...on];
    const planes = lease === null ? guest.planes.map(planeCells) : [['lease', '-', lease.state]];
    return (planes.length === 0 ? [[]] : planes).map((cells, index) => [
      ...(index === 0 ? place : place.map(() => '')),
      ...cells,
    ]);
  });
  const head = ['GUEST', 'KIND', 'PROCESS', 'OUTPUT', 'MODE', 'AREA'];
  const planeHead = ['PLANE', 'ON', 'STATE', 'SIZE', 'FORMAT', 'PRESENT', 'FLIPS', 'MISSED', 'P50', 'P99'];
  const width = head.length + planeHead.length;
  const padded = rows.map((row) => [...row, ...Array.from({ length: width - row.length }, () => '')]);
  return formatTable([...head, ...planeHead], padded, style) + formatNotes(guests.flatMap(notesOfGuest));
}

export function formatLeases(leases: readonly LeaseDocument[], style: Style): string {
  if (leases.length === 0) {
    return 'No lease. The configuration names them: [[lease]]; see docs/leases.md.\n';
  }
  const rows = leases.map(({ name, state, suspended, outputs, card, pid, uid, heldMs, planes }) => [
    plain(name),
    suspended ? 'suspended' : state,
    outputs.map(plain).join(', '),
    card ?? '-',
    pid === null ? '-' : String(pid),
    uid === null ? '-' : String(uid),
    state === 'free' ? '-' : formatDuration(heldMs),
    planes.length === 0 ? '-' : planes.join(' '),
  ]);
  const head = ['LEASE', 'STATE', 'OUTPUTS', 'CARD', 'PROCESS', 'UID', 'SINCE', 'PLANES'];
  return formatTable(head, rows, style) + leases.flatMap(notesOfLease).join('');
}

function notesOfLease({ name, ending, waiting }: LeaseDocument): string[] {
  const ends =
    ending === null ? [] : [`${plain(name)}: ends in ${ending.inMs} ms: ${plain(ending.reason)}\n`];
  const waits = waiting.map(
    ({ pid, uid, waitedMs, why }) =>
      `${plain(name)}: process ${pid}, uid ${uid}, waits since ${formatDuration(waitedMs)}: ${plain(why)}\n`,
  );
  return [...ends, ...waits];
}

/** One guest with everything that is known of it. */
export function formatGuest(guest: GuestDocument, style: Style): string {
  const planes = guest.planes.map(
    (plane) =>
      `plane ${plane.index}: ${count(plane.superseded, 'frame')} superseded, ${plane.refused} refused; latency of ` +
      `${count(plane.latencyUs.count, 'flip')}: p50 ${formatMicros(plane.latencyUs.p50)}, ` +
      `p99 ${formatMicros(plane.latencyUs.p99)}, max ${formatMicros(plane.latencyUs.max)}\n`,
  );
  if (guest.lease !== null) return formatGuests([guest], style);
  return [
    formatGuests([guest], style),
    `${count(guest.buffers, 'buffer')} registered, ${count(guest.copies, 'frame')} copied, ${guest.late} answered before shown\n`,
    ...planes,
  ].join('');
}

/** What an assignment led to, in a line. */
export function formatPlacement(guest: GuestDocument): string {
  if (guest.output === null) {
    return `${plain(guest.name)}: shown nowhere\n`;
  }
  const planes = guest.planes.map((plane) => `${plane.kind} ${onText(plane)} ${plane.state}`);
  const area = guest.area === null ? '' : `, ${formatArea(guest.area)}`;
  const detail = planes.length === 0 ? '' : ` (${planes.join(', ')})`;
  return `${plain(guest.name)}: on ${plain(guest.output)}${area}${detail}\n`;
}

function planeCells(plane: GuestPlaneDocument): string[] {
  const { latencyUs } = plane;
  const timed = (value: number) => (latencyUs.count === 0 ? '-' : formatMicros(value));
  return [
    plane.kind,
    onText(plane),
    plane.state,
    plane.size === null ? '-' : `${plane.size.width}x${plane.size.height}`,
    plane.fourcc === null ? '-' : `${plane.fourcc}${plane.modifier === null ? '' : ` ${plane.modifier}`}`,
    plane.present,
    String(plane.flips),
    String(plane.missed),
    timed(latencyUs.p50),
    timed(latencyUs.p99),
  ];
}

function onText(plane: GuestPlaneDocument): string {
  return plane.plane === null ? '-' : `plane ${plane.plane}`;
}

function connectionOf(guest: GuestDocument): string {
  if (!guest.connected) {
    return 'not connected';
  }
  return guest.pid === null ? 'connected' : `${guest.pid}${guest.uid === null ? '' : ` (user ${guest.uid})`}`;
}

function areaOf(guest: GuestDocument): string {
  return guest.area === null ? '-' : formatArea(guest.area);
}

function monitorOf(output: OutputDocument): string {
  const known = [output.make, output.model, output.serial].filter((part) => part !== null);
  return known.join(' ') || '-';
}

function stateOf(output: OutputDocument): string {
  if (!output.connected) {
    return 'unplugged';
  }
  if (!output.lit) {
    return 'dark';
  }
  return output.idle ? 'idle' : 'lit';
}

function notesOfOutput(output: OutputDocument): string[] {
  const notes: string[] = [];
  if (!output.lit && output.reason !== '') {
    notes.push(`${output.name}: not lit: ${output.reason}`);
  }
  if (output.lastError !== null) {
    const { code, errno, stage, count: times } = output.lastError;
    notes.push(`${output.name}: newest failure: ${stage}: ${code} (errno ${errno}), ${times} in all`);
  }
  return notes;
}

/** What there is to say of a guest that shows itself. */
function noteOfLease({ name, lease }: GuestDocument): string[] {
  if (lease === null) return [];
  switch (lease.state) {
    case 'waiting':
      return [`${name}: waits for lease ${lease.name}`];
    case 'leased':
      return [`${name}: has lease ${lease.name}: its flips are its own, and not counted here`];
    case 'ended':
      return [`${name}: has lease ${lease.name} no more: ${lease.reason}`];
  }
}

function notesOfGuest(guest: GuestDocument): string[] {
  const planes = guest.planes
    .filter((plane) => plane.state !== 'direct' && plane.reason !== '')
    .map((plane) => `${guest.name}: plane ${plane.index} is ${plane.state}: ${plane.reason}`);
  const notes = [...noteOfLease(guest), ...planes];
  return guest.lastError === '' ? notes : [...notes, `${guest.name}: newest error: ${guest.lastError}`];
}

function formatNotes(notes: readonly string[]): string {
  return notes.map((note) => `  ${plain(note)}\n`).join('');
}
