/**
 * The calls of display servers that know nothing of atomic commits (drm_mode.h), on any descriptor, each answered with the
 * name of its errno or "done". They name a CRTC, and the kernel takes its primary or cursor plane with it.
 */
import { execFileSync } from 'node:child_process';
import { getSystemErrorName } from 'node:util';
import type { KmsDevice, Mode } from '../../../src/native/kms.js';

/** Groups of three: the ioctl's number, its argument, and what the argument's first 8 bytes point at, in hexadecimal digits. */
const PERFORM = `
open(my $card, '+<&=', 3) or die "open: $!\\n";
while (my ($number, $bytes, $pointed) = splice(@ARGV, 0, 3)) {
  my ($argument, $memory) = (pack('H*', $bytes), pack('H*', $pointed));
  substr($argument, 0, 8, pack('P', $memory)) if length $memory;
  print defined(ioctl($card, hex $number, $argument)) ? 0 : $! + 0, "\\n";
}
`;

export interface LegacyCall {
  /** _IOWR('d', ..., sizeof the argument) */
  number: string;
  argument: Buffer;
  pointed?: Buffer;
}

export function perform(device: KmsDevice, calls: readonly LegacyCall[]): string[] {
  const words = calls.flatMap(({ number, argument, pointed }) => [
    number,
    argument.toString('hex'),
    pointed?.toString('hex') ?? '',
  ]);
  const fd = device.dupFd();
  try {
    const stdio = ['ignore', 'pipe', 'inherit', fd.number] as const;
    const answers = execFileSync('perl', ['-e', PERFORM, ...words], { stdio: [...stdio] }).toString();
    return answers.split('\n').slice(0, -1).map(nameOf);
  } finally {
    fd.close();
  }
}

function nameOf(errno: string): string {
  return errno === '0' ? 'done' : getSystemErrorName(-Number(errno));
}

const words = (...values: number[]) => Buffer.from(Int32Array.from(values).buffer);

/** `mode` null: the CRTC is switched off. */
export function setCrtc(
  crtc: number,
  framebuffer: number,
  connectors: readonly number[],
  mode: Mode | null,
): LegacyCall {
  const head = words(0, 0, connectors.length, crtc, framebuffer, 0, 0, 0, mode === null ? 0 : 1);
  const argument = Buffer.concat([head, mode === null ? Buffer.alloc(68) : mode.raw]);
  return { number: 'c06864a2', argument, pointed: words(...connectors) };
}

export function pageFlip(crtc: number, framebuffer: number): LegacyCall {
  return { number: 'c01864b0', argument: words(crtc, framebuffer, 0, 0, 0, 0) };
}

/** DRM_MODE_CURSOR_BO | DRM_MODE_CURSOR_MOVE to the upper left; handle 0: none. */
export function setCursor(crtc: number, size: number, handle: number): LegacyCall {
  return { number: 'c01c64a3', argument: words(3, crtc, 0, 0, size, size, handle) };
}

/** In its own size, at the upper left. */
export function setPlane(plane: number, crtc: number, framebuffer: number, size: number): LegacyCall {
  const source = size * 65536;
  return {
    number: 'c03064b7',
    argument: words(plane, crtc, framebuffer, 0, 0, 0, size, size, 0, 0, source, source),
  };
}
