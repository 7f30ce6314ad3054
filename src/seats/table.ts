/** What the input thread is told of a seat. */
import type { HotkeyConfig, InputConfig } from '../config/config.js';
import type { InputClass, Place, SeatTable } from '../native/input.js';
import type { GuestNames, Handle } from './handles.js';
import type { SeatView } from './seating.js';

/** A device of the seat that is open. */
export interface TableDevice {
  id: number;
  class: InputClass;
  entry: InputConfig | null;
}

const ON_SCREEN: readonly InputClass[] = ['absolute', 'touchscreen', 'tablet'];

export function seatTable(
  view: SeatView,
  { locked, switches }: Pick<Handle, 'locked' | 'switches'>,
  devices: readonly TableDevice[],
  { idOf: guestId, machineOf }: GuestNames,
): SeatTable {
  const { config, current } = view;
  const lit = view.outputs.filter((output) => output.lit !== null);
  const places = lit.flatMap(({ shown }, output): Place[] =>
    shown
      .flatMap(({ guest, area }) => {
        const id = guestId(machineOf(guest));
        return id === null ? [] : [{ guest: id, output, ...area }];
      })
      .reverse(),
  );
  const outputOf = ({ class: of, entry }: TableDevice): number | null => {
    if (lit.length === 0) return null;
    const wanted = entry?.output ?? null;
    const index = wanted === null ? -1 : lit.findIndex(({ names }) => names.includes(wanted));
    if (index >= 0) return index;
    return ON_SCREEN.includes(of) ? 0 : null;
  };
  return {
    devices: devices.map((device) => ({ id: device.id, output: outputOf(device) })),
    guest: locked || current === null ? null : guestId(current),
    switches,
    pointer: config.pointer,
    outputs: lit.map((output) => ({ width: output.lit?.width ?? 1, height: output.lit?.height ?? 1 })),
    places: locked ? [] : places,
    hotkeys: locked ? [] : hotkeys(view, guestId),
    carryLocks: config.carryLocks,
  };
}

function hotkeys(view: SeatView, guestId: (machine: string) => number | null): SeatTable['hotkeys'] {
  return view.config.hotkeys.map(({ held, key, target }, id) => {
    const machine = targetOf(view, target);
    const there = machine !== null && view.present.has(machine);
    return { held, key, id, guest: there ? guestId(machine) : null };
  });
}

/** The machine that a hotkey switches to, whether it is there or not; null: it does something else, or there is none. */
export function targetOf(view: SeatView, target: HotkeyConfig['target']): string | null {
  if ('guest' in target) return view.order.includes(target.guest) ? target.guest : null;
  if ('number' in target) return view.order[target.number - 1] ?? null;
  if (target.action === 'lock') return null;
  const there = view.order.filter((machine) => view.present.has(machine));
  if (there.length === 0) return null;
  const at = view.current === null ? -1 : there.indexOf(view.current);
  const step = target.action === 'next' ? 1 : -1;
  return there[(at + step + there.length) % there.length] ?? null;
}
