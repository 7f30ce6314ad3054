/** The daemon as the seats see it. */
import { spawn } from 'node:child_process';
import type { Config } from '../config/config.js';
import { outputSettings } from '../config/match.js';
import { FIRST_SEAT } from '../config/seats.js';
import type { GuestManager } from '../guests/manager.js';
import type { Card } from '../kms/card.js';
import { classify, describeDevice, InputEngine, type InputNotice } from '../native/input.js';
import { enumerateDevices } from '../native/session.js';
import type { Logger } from '../service/log.js';
import type { CardOpener } from '../session/cards.js';
import type { DeviceWorld } from './devices.js';
import { inputNodes } from './nodes.js';
import type { GuestView, OutputView } from './seating.js';
import type { GuestInput } from './sinks.js';

/** Everything around the seats. */
export interface SeatWorld extends DeviceWorld {
  makeEngine(priority: number, onNotice: (notice: InputNotice) => void): InputEngine;
  outputs(): OutputView[];
  guests(): GuestView[];
  /** Guests that show themselves on what they are leased, and are there. */
  lessees(): string[];
  /** Seats of udev that cards are at. */
  udevSeats(): string[];
  ownInput(machine: string): GuestInput | null;
  /** Puts guests where `SeatManager.placement` has them now. */
  rearrange(): Promise<void>;
  /** Something in the seats' documents changed. */
  changed(): void;
  run(command: readonly string[], environment: Record<string, string>): void;
}

/** ID_SEAT of cards, by device node; asked again when cards' udev events come. */
export class CardSeats {
  private seats: Map<string, string> | null = null;

  forget(): void {
    this.seats = null;
  }

  of(card: string): string {
    this.seats ??= new Map(
      enumerateDevices({ subsystem: 'drm' }).flatMap(({ devnode, properties }) =>
        devnode === null ? [] : [[devnode, properties.ID_SEAT || FIRST_SEAT] as const],
      ),
    );
    return this.seats.get(card) ?? FIRST_SEAT;
  }
}

export interface SeatWorldParts {
  cards: readonly Card[];
  cardSeats: CardSeats;
  opener: CardOpener;
  guests: () => GuestManager;
  config: () => Config;
  changed: () => void;
  log: Logger;
}

export function seatWorld(parts: SeatWorldParts): SeatWorld {
  const { cards, cardSeats, opener, guests, log } = parts;
  return {
    nodes: inputNodes,
    open: ({ path, udevSeat }) => opener.openInput(path, udevSeat),
    describe: describeDevice,
    classify,
    makeEngine: (priority, onNotice) => new InputEngine({ priority, onNotice }),
    outputs: () => cards.flatMap((card) => outputViews(card, cardSeats.of(card.path), parts.config())),
    guests: () => guests().views(),
    lessees: () =>
      [...guests().lessees.values()]
        .filter(({ connected }) => connected)
        .map(({ settings }) => settings.name),
    udevSeats: () => cards.map(({ path }) => cardSeats.of(path)),
    ownInput: (machine) => guests().find(machine)?.input ?? null,
    rearrange: () => guests().settleSeats(),
    changed: parts.changed,
    run: (command, environment) => run(command, environment, log),
  };
}

function outputViews(card: Card, udevSeat: string, config: Config): OutputView[] {
  return [...card.outputs.values()].map((output) => {
    const { name } = outputSettings(config, output.identity);
    return {
      name: output.name,
      names: name === null ? [output.name] : [output.name, name],
      udevSeat,
      lit: output.modeDocument(),
      shown: output.places(),
    };
  });
}

/** Nobody waits for it; what it says goes nowhere. */
function run(
  [program = '', ...args]: readonly string[],
  environment: Record<string, string>,
  log: Logger,
): void {
  const child = spawn(program, args, {
    stdio: 'ignore',
    detached: true,
    env: { ...process.env, ...environment },
  });
  child.on('error', (error) => log.error({ program, err: error }, `cannot run ${program}: ${error.message}`));
  child.on('exit', (code, signal) => {
    if (code !== 0) log.warn({ program, code, signal }, `${program} failed`);
  });
  child.unref();
}
