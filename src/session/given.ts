/** Cards that somebody else opened: descriptors that were passed, and leases of another lease manager. */
import { adoptCardDevice } from '../kms/drm-device.js';
import { GET_LEASE, RELEASE_LEASE, requestBytes } from '../leases/dlm-wire.js';
import { Fd, isSystemError } from '../native/base.js';
import { SeqPacket } from '../native/seqpacket.js';
import type { Logger } from '../service/log.js';
import { type OpenedCard, SessionError } from './source.js';

const DLM_DIRECTORY = '/var/run/drm-lease-manager';

/** Takes over a descriptor that this process was started with. Throws a SessionError. */
export function adoptDescriptor(number: number): OpenedCard {
  try {
    const device = adoptCardDevice(new Fd(number));
    if (device !== null) {
      const source = { kind: 'fd', detail: `descriptor ${number}`, own: false, told: false } as const;
      return { device, source: { ...source, close: () => {} } };
    }
  } catch (error) {
    if (!isSystemError(error)) throw error;
    throw new SessionError(`--drm-fd ${number}: ${error.message}`);
  }
  throw new SessionError(`--drm-fd ${number}: it is no card with outputs`);
}

/**
 * Asks a drm-lease-manager, or what speaks its protocol, for a lease, and waits for it as long as it takes. The lease lasts
 * as long as the connection. `ended`: the lease manager hung up. Rejects with a SessionError.
 */
export async function takeDlmLease(name: string, ended: () => void, log: Logger): Promise<OpenedCard> {
  const path = `${process.env.DLM_RUNTIME_PATH || DLM_DIRECTORY}/${name}`;
  const refuse = (why: string) => new SessionError(`--dlm-lease ${name}: ${path}: ${why}`);
  let connection: SeqPacket;
  try {
    connection = SeqPacket.connect(path, { maxFds: 2 });
  } catch (error) {
    if (!isSystemError(error)) throw error;
    throw refuse(error.message);
  }
  try {
    log.info({ lease: name, path }, 'asking for a lease');
    const fd = await granted(connection, refuse);
    const device = adoptCardDevice(fd);
    if (device === null) throw refuse('the lease has no outputs');
    connection.onClose = ended;
    const close = () => {
      if (connection.closed) return;
      send(connection, requestBytes(RELEASE_LEASE));
      connection.close();
    };
    return { device, source: { kind: 'lease', detail: path, own: false, told: false, close } };
  } catch (error) {
    if (!connection.closed) connection.close();
    if (isSystemError(error)) throw refuse(error.message);
    throw error;
  }
}

function granted(connection: SeqPacket, refuse: (why: string) => SessionError): Promise<Fd> {
  return new Promise((resolve, reject) => {
    connection.onClose = (reason) => reject(refuse(`denied; its lease manager may say why (${reason})`));
    connection.onMessage = (_data, fds) => {
      const [fd, ...others] = fds;
      if (fd !== undefined && others.length === 0) {
        // Nothing more is said in this protocol.
        connection.onMessage = (_more, strays) => {
          for (const stray of strays) stray.close();
        };
        resolve(fd);
        return;
      }
      for (const one of fds) one.close();
      reject(refuse(`an answer with ${fds.length} descriptors, where one is expected`));
    };
    send(connection, requestBytes(GET_LEASE));
  });
}

function send(connection: SeqPacket, bytes: Uint8Array): void {
  try {
    connection.send(bytes);
  } catch (error) {
    // Gone, which `onClose` tells.
    if (!isSystemError(error)) throw error;
  }
}
