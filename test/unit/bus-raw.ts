/** Peers that speak D-Bus by hand, to speak it wrongly. */
import { once } from 'node:events';
import { createConnection, type Socket } from 'node:net';
import { until } from './sockets.js';

export interface RawMessage {
  bigEndian?: boolean;
  type?: number;
  version?: number;
  serial?: number;
  /** Code, type and value; see `field`. */
  fields: Buffer[];
  body?: Buffer;
  /** What the header says instead of the truth. */
  fieldsLength?: number;
  bodyLength?: number;
}

const align = (size: number, to: number) => Math.ceil(size / to) * to;

/** A header field with a value of type s, o, g or u. */
export function field(code: number, type: string, value: string | number, bigEndian = false): Buffer {
  const head = Buffer.from([code, type.length, ...Buffer.from(type), 0]);
  if (typeof value === 'number') return Buffer.concat([head, u32(value, bigEndian)]);
  const text = Buffer.from(`${value}\0`);
  const size = text.length - 1;
  return Buffer.concat([head, type === 'g' ? Buffer.from([size]) : u32(size, bigEndian), text]);
}

export function u32(value: number, bigEndian = false): Buffer {
  const buffer = Buffer.alloc(4);
  if (bigEndian) buffer.writeUInt32BE(value);
  else buffer.writeUInt32LE(value);
  return buffer;
}

export function encode(message: RawMessage): Buffer {
  const { bigEndian = false, type = 1, version = 1, serial = 1, body = Buffer.alloc(0) } = message;
  let fields = Buffer.alloc(0);
  for (const next of message.fields) {
    fields = Buffer.concat([fields, Buffer.alloc(align(fields.length, 8) - fields.length), next]);
  }
  const head = Buffer.concat([
    Buffer.from([bigEndian ? 66 : 108, type, 0, version]),
    u32(message.bodyLength ?? body.length, bigEndian),
    u32(serial, bigEndian),
    u32(message.fieldsLength ?? fields.length, bigEndian),
    fields,
  ]);
  return Buffer.concat([head, Buffer.alloc(align(head.length, 8) - head.length), body]);
}

/** A call of a method without arguments. */
export function encodeCall(path: string, interfaceName: string, member: string, serial = 1): Buffer {
  return encode({
    serial,
    fields: [field(1, 'o', path), field(2, 's', interfaceName), field(3, 's', member)],
  });
}

/** One connection of bytes. */
export class RawPeer {
  received = Buffer.alloc(0);
  closed = false;

  private constructor(readonly socket: Socket) {
    socket.on('data', (data) => {
      this.received = Buffer.concat([this.received, data]);
    });
    socket.on('error', () => {});
    socket.on('close', () => {
      this.closed = true;
    });
  }

  static async connect(path: string): Promise<RawPeer> {
    const socket = createConnection(path);
    await once(socket, 'connect');
    return new RawPeer(socket);
  }

  /** With the handshake done, as this process's user. */
  static async connectAuthenticated(path: string): Promise<RawPeer> {
    const peer = await RawPeer.connect(path);
    peer.write('\0AUTH EXTERNAL\r\n');
    await peer.expect('DATA\r\n');
    peer.write('DATA\r\n');
    await until('OK', () => peer.received.toString().startsWith('OK '));
    peer.received = Buffer.alloc(0);
    peer.write('BEGIN\r\n');
    return peer;
  }

  write(data: string | Uint8Array): void {
    this.socket.write(data);
  }

  /** Waits for exactly this and forgets it. */
  async expect(text: string): Promise<void> {
    await until(`${JSON.stringify(text)}, not ${JSON.stringify(this.received.toString('latin1'))}`, () =>
      this.received.toString('latin1').startsWith(text),
    );
    this.received = this.received.subarray(text.length);
  }

  async ended(): Promise<void> {
    await until('the connection to be closed', () => this.closed);
  }

  close(): void {
    this.socket.destroy();
  }
}
