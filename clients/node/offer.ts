/** A device of VFIO that the daemon shows by itself: for virtual machine monitors with a vGPU. */
import { decodeFromDaemon, encode, ProtocolError, VERSION } from '../../src/guests/protocol.js';
import { SOCKET_PATH } from '../../src/guests/wire.js';
import { type Fd, isSystemError } from '../../src/native/base.js';
import { SeqPacket } from '../../src/native/seqpacket.js';
import { ClosedError, RefusedError, retried } from './attempts.js';

export interface DeviceOffer {
  /** Resolved with why the daemon shows the device no more; by `close` with a ClosedError without a reason. */
  readonly ended: Promise<RefusedError | ClosedError>;
  /** Takes the device back. */
  close(): void;
}

/**
 * Offers a device (its VFIO descriptor, which stays the caller's) as guest `name` of the configuration. The daemon shows
 * it until the offer is closed or the process ends; an open offer keeps the process alive. Tries until `timeoutMs` have
 * passed (default: one attempt).
 *
 * Rejected with a RefusedError when the daemon refuses it, with a SystemError or ClosedError otherwise.
 */
export function offerDevice(options: {
  name: string;
  device: Fd;
  /** Default: SOCKET_PATH. */
  path?: string;
  timeoutMs?: number;
}): Promise<DeviceOffer> {
  const { name, device, path = SOCKET_PATH, timeoutMs = 0 } = options;
  return retried(timeoutMs, (leftMs) => attempt(SeqPacket.connect(path), name, device, leftMs));
}

function attempt(connection: SeqPacket, name: string, device: Fd, leftMs: number): Promise<DeviceOffer> {
  return new Promise((resolve, reject) => {
    let timer: NodeJS.Timeout | undefined;
    let settle: (why: RefusedError | ClosedError) => void = () => {};
    const ended = new Promise<RefusedError | ClosedError>((resolve) => {
      settle = resolve;
    });
    const end = (why: RefusedError | ClosedError) => {
      clearTimeout(timer);
      connection.close();
      settle(why);
      reject(why); // unless it was taken before
    };
    const taken = () => {
      clearTimeout(timer);
      resolve({ ended, close: () => end(new ClosedError(null)) });
    };
    if (Number.isFinite(leftMs)) timer = setTimeout(() => end(new ClosedError('ETIMEDOUT')), leftMs);
    connection.onClose = () => end(new ClosedError('ECONNRESET'));
    connection.onMessage = (data, fds) => {
      for (const fd of fds) fd.close();
      const answer = decodeAnswer(data, fds.length);
      if (answer === null) taken();
      else end(answer);
    };
    const { major: versionMajor, minor: versionMinor } = VERSION;
    const message = encode({ type: 'offerDevice', serial: 1, versionMajor, versionMinor, name });
    try {
      connection.send(message, [device]);
    } catch (error) {
      end(new ClosedError(isSystemError(error) ? error.code : 'EPROTO'));
    }
  });
}

/** Null: the device is taken; else why it is not, or not any more. */
function decodeAnswer(data: Uint8Array, fds: number): RefusedError | ClosedError | null {
  try {
    const message = decodeFromDaemon(data, fds);
    if (message.type === 'done') return null;
    if (message.type === 'error') return new RefusedError(message.code, message.errnum, message.text);
  } catch (error) {
    if (!(error instanceof ProtocolError)) throw error;
  }
  return new ClosedError('EPROTO');
}
