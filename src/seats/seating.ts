/**
 * Who sits where: which outputs and guests a seat has, which guest has its input, and which of the guests that would fill the same
 * output is seen. Knows names only; does nothing.
 */
import type { Area, Config, GuestConfig, SeatConfig } from '../config/config.js';
import { FIRST_SEAT } from '../config/seats.js';

/** An output, as far as this is concerned. */
export interface OutputView {
  /** Its connector. */
  name: string;
  /** That, and its name in the configuration. */
  names: readonly string[];
  /** ID_SEAT of its card. */
  udevSeat: string;
  /** In pixels; null while it is dark. */
  lit: { width: number; height: number } | null;
  /** Guests on it, the lowest first. */
  shown: readonly { guest: string; area: Area }[];
}

/** A guest that is there. Each scanout of a virtual machine is one. */
export interface GuestView {
  name: string;
  /** The guest of the configuration that it is part of; else its own name. */
  machine: string;
  /** Which of the scanouts, from 0. */
  scanout: number;
  /** Name of the output that an assignment or the configuration wants; null: none. It need not be there. */
  request: string | null;
  /** It fills its output, so that others on it are not seen. */
  whole: boolean;
}

export interface SeatView {
  config: SeatConfig;
  outputs: OutputView[];
  /** Machines in the order of switching. */
  order: string[];
  present: ReadonlySet<string>;
  /** The machine that has the input, or null. */
  current: string | null;
}

/** Where a guest is to be. `floating`: any free output will do instead. */
export type Placement = { output: string } | { hidden: string; floating: boolean };

export interface Facts {
  config: Config;
  seats: readonly SeatConfig[];
  outputs: readonly OutputView[];
  guests: readonly GuestView[];
  /** Guests that show themselves on what they are leased. */
  lessees: readonly string[];
}

interface Home {
  seat: string;
  /** Connector; null while the seat has none. */
  output: string | null;
  floating: boolean;
}

export class Seating {
  private facts: Facts | null = null;
  private views = new Map<string, SeatView>();
  private homes = new Map<string, Home>();
  /** Machines of a seat that were switched to, the newest first: the one that is there has the input. */
  private readonly recent = new Map<string, string[]>();
  /** Where guests were put that want no output of their own. */
  private readonly joined = new Map<string, { seat: string; output: string }>();

  update(facts: Facts): void {
    this.facts = facts;
    const there = new Set(facts.guests.map(({ name }) => name));
    for (const name of [...this.joined.keys()]) if (!there.has(name)) this.joined.delete(name);
    const outputs = new Map(facts.seats.map((seat) => [seat.name, outputsOf(seat, facts)]));
    this.homes = new Map(
      facts.guests.flatMap((guest) => {
        const home = this.homeOf(guest, outputs);
        return home === null ? [] : [[guest.name, home] as const];
      }),
    );
    this.views = new Map(
      facts.seats.map((seat) => [seat.name, this.view(seat, outputs.get(seat.name) ?? [])]),
    );
    for (const name of [...this.recent.keys()]) if (!this.views.has(name)) this.recent.delete(name);
  }

  seats(): SeatView[] {
    return [...this.views.values()];
  }

  seat(name: string): SeatView | undefined {
    return this.views.get(name);
  }

  /** The seat that a machine is at, or null. */
  seatOf(machine: string): SeatView | null {
    return this.seats().find(({ order }) => order.includes(machine)) ?? null;
  }

  /** Gives the input to a machine of the seat, from the next `update` on. */
  switchTo(seat: string, machine: string): void {
    const others = (this.recent.get(seat) ?? []).filter((one) => one !== machine);
    this.recent.set(seat, [machine, ...others]);
  }

  /** Null: seats have no say. */
  placement(name: string): Placement | null {
    const guest = this.facts?.guests.find((one) => one.name === name);
    const home = this.homes.get(name);
    if (guest === undefined || home === undefined) return null;
    const { seat, output, floating } = home;
    if (output === null) return { hidden: `seat ${seat} has no output`, floating };
    if (!guest.whole) return { output };
    const winner = this.winner(seat, output);
    return winner === guest.name || winner === null
      ? { output }
      : { hidden: `seat ${seat} shows ${winner}`, floating };
  }

  /** Output for a guest of a seat that is about to come, or null. */
  outputFor(machine: string, scanout: number): string | null {
    const seat = this.seats().find(({ config }) => config.guests?.includes(machine));
    return seat === undefined ? null : (pick(seat.outputs, scanout)?.name ?? null);
  }

  // ---- homes

  private homeOf(guest: GuestView, outputs: ReadonlyMap<string, OutputView[]>): Home | null {
    const { config, seats } = this.facts as Facts;
    if (inputOf(config, guest.machine) === 'none') return null;
    const own = seats.find((seat) => seat.guests?.includes(guest.machine));
    if (own !== undefined) {
      const all = outputs.get(own.name) ?? [];
      if (guest.request === null)
        return { seat: own.name, output: pick(all, guest.scanout)?.name ?? null, floating: false };
      const wanted = all.find(({ names }) => names.includes(guest.request ?? ''));
      return wanted === undefined ? null : { seat: own.name, output: wanted.name, floating: false };
    }
    const open = seats.filter((seat) => seat.guests === null);
    const at = (test: (output: OutputView) => boolean) => {
      for (const seat of open) {
        const output = outputs.get(seat.name)?.find(test);
        if (output !== undefined) return { seat: seat.name, output: output.name };
      }
      return null;
    };
    if (guest.request !== null) {
      const home = at(({ names }) => names.includes(guest.request ?? ''));
      return home === null ? null : { ...home, floating: false };
    }
    const shown = at((output) => output.shown.some((one) => one.guest === guest.name));
    const former = this.joined.get(guest.name);
    const still = former !== undefined && at(({ name }) => name === former.output) !== null ? former : null;
    const home = shown ?? still;
    if (home !== null) this.joined.set(guest.name, home);
    return home === null ? null : { ...home, floating: true };
  }

  /** A guest that wants no output, and found none free, waits at the first seat that takes any: it can be switched to. */
  join(name: string): boolean {
    const { config, seats } = this.facts as Facts;
    const guest = this.facts?.guests.find((one) => one.name === name);
    if (guest === undefined || guest.request !== null || this.homes.has(name)) return false;
    if (inputOf(config, guest.machine) === 'none') return false;
    const open = seats.filter((seat) => seat.guests === null);
    const seat = open.find(({ udevSeat }) => udevSeat === FIRST_SEAT) ?? open[0];
    const output = this.views.get(seat?.name ?? '')?.outputs.find(({ lit }) => lit !== null);
    if (seat === undefined || output === undefined) return false;
    this.joined.set(name, { seat: seat.name, output: output.name });
    return true;
  }

  // ---- who has what

  private view(config: SeatConfig, outputs: OutputView[]): SeatView {
    const facts = this.facts as Facts;
    const present = new Set(
      facts.guests
        .filter(({ name }) => this.homes.get(name)?.seat === config.name)
        .map(({ machine }) => machine),
    );
    if (config.guests !== null) {
      const there = new Set([...facts.guests.map(({ machine }) => machine), ...facts.lessees]);
      for (const name of config.guests) if (there.has(name)) present.add(name);
    }
    const order = (config.guests ?? this.impliedOrder(outputs, present)).filter(
      (machine) => inputOf(facts.config, machine) !== 'none',
    );
    return { config, outputs, order, present, current: this.current(config.name, order, present) };
  }

  private impliedOrder(outputs: readonly OutputView[], present: ReadonlySet<string>): string[] {
    const { config, seats } = this.facts as Facts;
    const taken = new Set(seats.flatMap(({ guests }) => guests ?? []));
    const isHere = (guest: GuestConfig) =>
      requestOf(guest).some((name) => outputs.some(({ names }) => names.includes(name)));
    const configured = config.guests
      .filter((guest) => present.has(guest.name) || isHere(guest))
      .map(({ name }) => name);
    return [...new Set([...configured, ...present])].filter((name) => !taken.has(name));
  }

  /**
   * Of those that were switched to, the newest that is there; else the first that is there. A guest that went and comes
   * again has the input again, unless somebody has switched to another meanwhile.
   */
  private current(seat: string, order: readonly string[], present: ReadonlySet<string>): string | null {
    const recent = (this.recent.get(seat) ?? []).filter((machine) => order.includes(machine));
    const found = recent.find((machine) => present.has(machine));
    const first = found ?? order.find((machine) => present.has(machine)) ?? null;
    if (first !== null && !recent.includes(first)) recent.push(first);
    this.recent.set(seat, recent);
    return first;
  }

  /** The guest that is seen of those that would fill the output. */
  private winner(seat: string, output: string): string | null {
    const view = this.views.get(seat);
    const recent = this.recent.get(seat) ?? [];
    const rank = ({ machine, name }: GuestView) => {
      const at = recent.indexOf(machine);
      if (at >= 0) return at;
      const place = view?.order.indexOf(machine) ?? -1;
      // What is seen already stays in front of what was never switched to.
      const seen = view?.outputs.some(({ shown }) => shown.some(({ guest }) => guest === name)) ?? false;
      return recent.length + (seen ? 0 : 1000) + Math.max(place, 0);
    };
    const rivals = (this.facts?.guests ?? []).filter((guest) => {
      const home = this.homes.get(guest.name);
      return guest.whole && home?.seat === seat && home.output === output;
    });
    return rivals.sort((a, b) => rank(a) - rank(b))[0]?.name ?? null;
  }
}

function outputsOf(seat: SeatConfig, { seats, outputs }: Facts): OutputView[] {
  if (seat.outputs !== null) {
    return seat.outputs.flatMap((name) => outputs.find(({ names }) => names.includes(name)) ?? []);
  }
  const taken = seats.flatMap((other) => other.outputs ?? []);
  return outputs.filter(
    ({ udevSeat, names }) => udevSeat === seat.udevSeat && !names.some((name) => taken.includes(name)),
  );
}

/** The output for a scanout: its own where the seat has so many, lit ones first. */
function pick(outputs: readonly OutputView[], scanout: number): OutputView | undefined {
  const lit = outputs.filter((output) => output.lit !== null);
  return lit[scanout] ?? (scanout === 0 ? outputs[0] : undefined);
}

function requestOf(guest: GuestConfig): string[] {
  if (guest.kind === 'lease') return [];
  if (guest.kind === 'virtio' && guest.outputs !== null) return guest.outputs;
  return guest.output === null ? [] : [guest.output];
}

/** A guest that the configuration does not name has input as its kind has. */
function inputOf({ guests }: Config, machine: string): string | null {
  return guests.find(({ name }) => name === machine)?.input.how ?? null;
}
