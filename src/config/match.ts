/** Which entry of the configuration is meant: by first match for cards, outputs and modes, by name for guests. */
import type { Config, GuestConfig, ModeRequest, OutputConfig, PeerRule } from './config.js';

/** What is known of a card; `aliases` are further paths of the device node, links included. */
export interface CardIdentity {
  device: string;
  driver: string;
  aliases?: readonly string[];
}

/** What is known of an output. `card` is the device node, `cardAliases` further paths of it. */
export interface OutputIdentity {
  connector: string;
  card: string;
  cardAliases?: readonly string[];
  make: string | null;
  model: string | null;
  serial: string | null;
}

export interface ModeLike {
  width: number;
  height: number;
  /** Thousandths of a hertz. */
  refreshMhz: number;
  preferred: boolean;
}

/** How far a mode's refresh may be from the wanted one, in thousandths of a hertz: 60 means 59.94 too. */
const REFRESH_TOLERANCE_MHZ = 500;

const UNLISTED: OutputConfig = {
  name: null,
  match: { connector: null, card: null, make: null, model: null, serial: null },
  enabled: true,
  mode: 'preferred',
  policy: 'auto',
  writeback: true,
  idle: { background: 0x101418, text: true },
};

/** Whether the daemon takes the card. */
export function takesCard(config: Config, card: CardIdentity): boolean {
  const nodes = [card.device, ...(card.aliases ?? [])];
  const entry = config.cards.find(
    ({ match }) => (match.device === null || nodes.includes(match.device)) && fits(match.driver, card.driver),
  );
  return entry === undefined || !entry.ignore;
}

/** Settings of an output: the first entry that matches, or the defaults. */
export function outputSettings(config: Config, output: OutputIdentity): OutputConfig {
  const nodes = [output.card, ...(output.cardAliases ?? [])];
  const entry = config.outputs.find(
    ({ match }) =>
      fits(match.connector, output.connector) &&
      (match.card === null || nodes.includes(match.card)) &&
      fits(match.make, output.make) &&
      fits(match.model, output.model) &&
      fits(match.serial, output.serial),
  );
  return entry ?? UNLISTED;
}

/** Whether `name`, as a guest or an assignment says it, means this output. */
export function isOutputNamed(config: Config, output: OutputIdentity, name: string): boolean {
  return output.connector === name || outputSettings(config, output).name === name;
}

/** Settings of a guest by its name, or null for one that is not configured. */
export function guestSettings(config: Config, name: string): GuestConfig | null {
  return config.guests.find((guest) => guest.name === name) ?? null;
}

/** Whether a process with these credentials (SO_PEERCRED) may be the guest. */
export function allowsPeer(guest: PeerRule, uid: number, gid: number): boolean {
  if (guest.uids === null && guest.gids === null) {
    return true;
  }
  return (guest.uids ?? []).includes(uid) || (guest.gids ?? []).includes(gid);
}

/**
 * The mode that is meant, or null when the output has none like it.
 *
 * Of modes that are equally good the first wins, since the kernel lists the better ones first.
 */
export function pickMode<M extends ModeLike>(modes: readonly M[], request: ModeRequest): M | null {
  if (request === 'preferred') {
    return modes.find((mode) => mode.preferred) ?? modes[0] ?? null;
  }
  const { refreshMhz } = request;
  const sized = modes.filter((mode) => mode.width === request.width && mode.height === request.height);
  if (refreshMhz === null) {
    return best(sized, (mode) => -mode.refreshMhz);
  }
  const distance = (mode: M) => Math.abs(mode.refreshMhz - refreshMhz);
  return best(
    sized.filter((mode) => distance(mode) <= REFRESH_TOLERANCE_MHZ),
    distance,
  );
}

function fits(wanted: string | null, actual: string | null): boolean {
  return wanted === null || wanted === actual;
}

function best<M>(candidates: readonly M[], cost: (candidate: M) => number): M | null {
  let winner: M | null = null;
  for (const candidate of candidates) {
    if (winner === null || cost(candidate) < cost(winner)) {
      winner = candidate;
    }
  }
  return winner;
}
