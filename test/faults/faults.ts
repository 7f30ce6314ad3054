/**
 * Faults between a program and the display driver: the outside of faults.c, which tells what each of them does. A program
 * gets them when it is started with the environment `faultsEnvironment(path)`.
 */
import { closeSync, openSync, readSync, writeSync } from 'node:fs';
import { constants } from 'node:os';

/** Numbers of DRM ioctls (_IOC_NR), as counters and rules name them. */
export const IOCTL = {
  GEM_CLOSE: 0x09,
  SET_MASTER: 0x1e,
  DROP_MASTER: 0x1f,
  PRIME_HANDLE_TO_FD: 0x2d,
  PRIME_FD_TO_HANDLE: 0x2e,
  MODE_GETPROPERTY: 0xaa,
  MODE_RMFB: 0xaf,
  MODE_PAGE_FLIP: 0xb0,
  MODE_CREATE_DUMB: 0xb2,
  MODE_MAP_DUMB: 0xb3,
  MODE_DESTROY_DUMB: 0xb4,
  MODE_ADDFB2: 0xb8,
  MODE_ATOMIC: 0xbc,
  MODE_CREATEPROPBLOB: 0xbd,
  MODE_CREATE_LEASE: 0xc6,
  MODE_REVOKE_LEASE: 0xc9,
} as const;
export type IoctlName = keyof typeof IOCTL;

/** Flags of DRM_IOCTL_MODE_ATOMIC. */
export const COMMIT = {
  EVENT: 0x01,
  ASYNC: 0x02,
  TEST_ONLY: 0x0100,
  NONBLOCK: 0x0200,
  ALLOW_MODESET: 0x0400,
} as const;

interface When {
  /** So many matches pass first. */
  skip?: number;
  /** Then so many are hit; for ever when absent. */
  count?: number;
}

export interface IoctlRule extends When {
  ioctl: IoctlName;
  /** What happens: an errno, or a pause of milliseconds before the ioctl. */
  action: { refuse: string } | { sleep: number };
  /** MODE_ATOMIC: all of `flags` and none of `flagsClear`. */
  flags?: number;
  flagsClear?: number;
  /** An object that the request names: a plane of a commit, a handle of a framebuffer. */
  object?: number;
}

export interface EventRule extends When {
  /** What happens to a flip event. */
  event: 'drop' | 'duplicate' | { delayRefreshes: number };
  crtc?: number;
}

export interface Rule {
  /** How often it matched, and how often it was its turn. */
  readonly matches: number;
  readonly hits: number;
  remove(): void;
}

export interface Faults {
  addRule(rule: IoctlRule | EventRule): Rule;
  /** Ends every rule. Counters go on. */
  clear(): void;
  /** How often an ioctl was made so far, refused ones included. */
  ioctls(name: IoctlName): number;
  /** All ioctls. */
  total(): number;
  /** Atomic commits by kind, and flip events that the driver sent. */
  commits(): { tests: number; nonblocking: number; blocking: number; events: number };
  close(): void;
}

// The layout of struct control in faults.c.
const MAGIC = 0x544c4146;
const VERSION = 1;
const MAX_RULES = 32;
const RULE_SIZE = 48;
const IOCTLS_AT = 16;
const TOTALS_AT = IOCTLS_AT + 4 * 256;
const RULES_AT = TOTALS_AT + 16;
const SIZE = RULES_AT + MAX_RULES * RULE_SIZE;
const MATCHES = 9;
const HITS = 10;
const ACTIONS = { refuse: 1, sleep: 2, drop: 3, delay: 4, duplicate: 5 } as const;

/** What a program that is to have the faults of `path` needs in its environment. */
export function faultsEnvironment(path: string, library: string): NodeJS.ProcessEnv {
  return { ...process.env, LD_PRELOAD: library, SCANOUTD_FAULTS: path };
}

/** Makes the control file anew, before the program is started. */
export function createFaults(path: string): Faults {
  const head = Buffer.alloc(SIZE);
  [MAGIC, VERSION, SIZE, MAX_RULES].forEach((word, i) => {
    head.writeUInt32LE(word, 4 * i);
  });
  const fd = openSync(path, 'w+');
  writeSync(fd, head, 0, SIZE, 0);
  return new ControlFile(fd);
}

/** Opens the control file of a program that runs. Throws when it was made for another version. */
export function openFaults(path: string): Faults {
  const fd = openSync(path, 'r+');
  const head = Buffer.alloc(12);
  readSync(fd, head, 0, head.length, 0);
  const words = [0, 4, 8].map((at) => head.readUInt32LE(at));
  if (words[0] === MAGIC && words[1] === VERSION && words[2] === SIZE) return new ControlFile(fd);
  closeSync(fd);
  throw new Error(`${path}: no control file of this version`);
}

function errnoOf(code: string): number {
  const number = (constants.errno as Record<string, number>)[code];
  if (number === undefined) throw new RangeError(`${code} is no errno`);
  return number;
}

function ioctlWords(rule: IoctlRule): number[] {
  const [action, value] =
    'refuse' in rule.action
      ? [ACTIONS.refuse, errnoOf(rule.action.refuse)]
      : [ACTIONS.sleep, rule.action.sleep];
  return [action, value, IOCTL[rule.ioctl], rule.flags ?? 0, rule.flagsClear ?? 0, rule.object ?? 0];
}

function eventWords({ event, crtc = 0 }: EventRule): number[] {
  if (typeof event === 'string') return [ACTIONS[event], 0, 0, 0, 0, crtc];
  return [ACTIONS.delay, event.delayRefreshes, 0, 0, 0, crtc];
}

/** Reads and writes go to the same pages that the program has mapped. */
class ControlFile implements Faults {
  readonly #fd: number;

  constructor(fd: number) {
    this.#fd = fd;
  }

  addRule(rule: IoctlRule | EventRule): Rule {
    const index = Array.from({ length: MAX_RULES }, (_, i) => i).find(
      (i) => this.#word(RULES_AT + i * RULE_SIZE) === 0,
    );
    if (index === undefined) throw new Error('no room for another rule');
    const at = RULES_AT + index * RULE_SIZE;
    const words = 'event' in rule ? eventWords(rule) : ioctlWords(rule);
    this.#write(at + 4, [...words, rule.skip ?? 0, rule.count ?? 0, 0, 0, 0]);
    this.#write(at, [1]);
    const word = (i: number): number => this.#word(at + 4 * i);
    return {
      get matches() {
        return word(MATCHES);
      },
      get hits() {
        return word(HITS);
      },
      remove: () => this.#write(at, [0]),
    };
  }

  clear(): void {
    for (let i = 0; i < MAX_RULES; i++) this.#write(RULES_AT + i * RULE_SIZE, [0]);
  }

  ioctls(name: IoctlName): number {
    return this.#word(IOCTLS_AT + 4 * IOCTL[name]);
  }

  total(): number {
    let sum = 0;
    for (let i = 0; i < 256; i++) sum += this.#word(IOCTLS_AT + 4 * i);
    return sum;
  }

  commits(): { tests: number; nonblocking: number; blocking: number; events: number } {
    const word = (i: number): number => this.#word(TOTALS_AT + 4 * i);
    return { tests: word(0), nonblocking: word(1), blocking: word(2), events: word(3) };
  }

  close(): void {
    closeSync(this.#fd);
  }

  #word(at: number): number {
    const bytes = Buffer.alloc(4);
    readSync(this.#fd, bytes, 0, 4, at);
    return bytes.readUInt32LE(0);
  }

  #write(at: number, words: number[]): void {
    const bytes = Buffer.alloc(4 * words.length);
    words.forEach((word, i) => {
      bytes.writeUInt32LE(word, 4 * i);
    });
    writeSync(this.#fd, bytes, 0, bytes.length, at);
  }
}
