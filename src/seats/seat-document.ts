/** What is told of a seat. */
import type { GuestSinkDocument, SeatDocument } from '../api/documents.js';
import type { GuestInputName } from '../config/config.js';
import type { SeatView } from './seating.js';

export interface SeatState {
  /** What is missing; null before that was looked at, empty when nothing is. */
  ready: string | null;
  locked: boolean;
  idle: boolean;
  idleMs: number;
  automatic: boolean;
}

/** How a machine gets input, and what its guests are called. */
export interface MachineState {
  how: GuestInputName;
  names: readonly string[];
  sinks: GuestSinkDocument[];
}

export function seatDocument(
  { config, outputs, order, present, current }: SeatView,
  { ready, locked, idle, idleMs, automatic }: SeatState,
  machineOf: (machine: string) => MachineState,
): Omit<SeatDocument, 'devices'> {
  const { name, udevSeat, pointer } = config;
  return {
    name,
    udevSeat,
    automatic,
    ready: ready === '',
    reason: ready ?? '',
    outputs: outputs.map((output) => ({ name: output.name, lit: output.lit !== null })),
    guest: locked ? null : current,
    guests: order.map((machine) => {
      const { how, names, sinks } = machineOf(machine);
      const on = outputs.find(({ shown }) => shown.some(({ guest }) => names.includes(guest)));
      return { name: machine, how, present: present.has(machine), output: on?.name ?? null, sinks };
    }),
    locked,
    idle,
    idleMs,
    pointer,
  };
}

/** What a seat waits for; empty when it is ready. */
export function missing({ outputs }: SeatView, devices: number): string {
  const lit = outputs.some((output) => output.lit !== null);
  if (lit && devices > 0) return '';
  if (!lit && devices === 0) return 'it has neither an output that is lit nor a device';
  return lit ? 'it has no device' : 'it has no output that is lit';
}
